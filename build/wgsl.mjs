// Makes the WGSL in a module's template strings smaller: comments, indentation and blanks that separate nothing go away, lines stay, so
// that the compiler's messages name the same ones. Only templates of several lines are touched: in the library those are WGSL alone.

import ts from 'typescript';

/** A blank beside one of these separates nothing. `-` and `&` are absent: `a - -b` and `a & &b` need theirs. */
const ALONE = '{}()[];,=+*/<>:|%!';

/**
 * @param {string} text part of a WGSL program, as it is written in a template
 * @returns {string}
 */
export function smallerWgsl(text) {
  const lines = text.replace(/[ \t]*\/\/[^\n]*/g, '').split('\n');
  return lines
    .map((line, i) => {
      // What stands before the first line and after the last is a value that is put in.
      const trimmed = i === 0 ? line : line.trimStart();
      const short = trimmed.replace(/ +/g, (blanks, at) => {
        const before = trimmed[at - 1],
          after = trimmed[at + blanks.length];
        return (before && ALONE.includes(before)) || (after && ALONE.includes(after)) ? '' : ' ';
      });
      return i === lines.length - 1 ? short : short.trimEnd();
    })
    .join('\n')
    .replace(/\n{2,}/g, '\n');
}

/**
 * @param {string} code a JavaScript module
 * @returns {string} the same with smaller WGSL
 */
export function withSmallerWgsl(code) {
  const file = ts.createSourceFile('module.js', code, ts.ScriptTarget.Latest, true);
  /** @type {{ from: number, to: number, text: string }[]} */
  const edits = [];
  const parts = (node) =>
    ts.isNoSubstitutionTemplateLiteral(node)
      ? [node]
      : [node.head, ...node.templateSpans.map(({ literal }) => literal)];
  const visit = (node) => {
    const template = ts.isNoSubstitutionTemplateLiteral(node) || ts.isTemplateExpression(node);
    if (template && parts(node).some((part) => part.getText(file).includes('\n'))) {
      for (const part of parts(node)) {
        const whole = part.getText(file);
        const closed = /`$/.test(whole) && !ts.isTemplateHead(part) ? 1 : 2; // "`", or "${"
        const from = part.getStart(file) + 1,
          to = part.getEnd() - closed;
        edits.push({ from, to, text: smallerWgsl(code.slice(from, to)) });
      }
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  let smaller = code;
  for (const { from, to, text } of edits.sort((a, b) => b.from - a.from))
    smaller = smaller.slice(0, from) + text + smaller.slice(to);
  return smaller;
}
