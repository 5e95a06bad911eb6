// Why a kernel does not compile, said in the lines that its author wrote: the module around them is the engine's.

import { CompileError } from '../errors.ts';
import type { KernelSource } from './kernel.ts';
import type { GPUShaderModule } from './webgpu.ts';

/** What was given to the compiler. */
interface Refused {
  readonly name: string;
  readonly source: KernelSource;
  /** The whole module. */
  readonly code: string;
  /** What WebGPU says, where the compiler has no line to point to. */
  readonly reason: string;
}

/** Errors that are told; there are more in the listing's lines, mostly because of the first. */
const MOST_ERRORS = 3;

/** The error of a module or pipeline that was refused. */
export async function diagnose(module: GPUShaderModule, refused: Refused): Promise<CompileError> {
  const { name, code, reason } = refused;
  const { messages } = await module.getCompilationInfo();
  const errors = messages.filter(({ type, lineNum }) => type === 'error' && lineNum > 0);
  const what = errors.slice(0, MOST_ERRORS).map((error) => `${placeOf(error, refused)}: ${error.message.trim()}`);
  return new CompileError(name, what.join('; ') || reason.trim(), { listing: numbered(code) });
}

/** `Line 2, column 10 of the body ("y[0] = nonsense;")`. */
function placeOf({ lineNum, linePos }: GPUCompilationMessage, { source, code }: Refused): string {
  const text = code.split('\n')[lineNum - 1].trim();
  // The body comes last; what is above it may hold the same text.
  for (const [part, content, at] of [
    ['declarations', source.declarations, code.indexOf(source.declarations ?? '')],
    ['body', source.body, code.lastIndexOf(source.body)],
  ] as const) {
    if (!content) continue;
    const first = code.slice(0, at).split('\n').length;
    const line = lineNum - first + 1;
    if (line >= 1 && line <= content.split('\n').length)
      return `Line ${line}, column ${linePos} of the ${part} (${JSON.stringify(text)})`;
  }
  return `Line ${lineNum}, column ${linePos} of the module (${JSON.stringify(text)})`;
}

function numbered(code: string): string {
  return code
    .split('\n')
    .map((line, i) => `${String(i + 1).padStart(4)}  ${line}`)
    .join('\n');
}
