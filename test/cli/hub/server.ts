// A Hub on loopback, as far as its client uses it: who somebody is, repositories, uploads by the LFS protocol or within a
// commit, lists, and files in parts. It remembers what it was asked, and can cut downloads short.

import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export const TOKEN = 'hf_aTokenOfTheTest';

interface StoredFile {
  readonly bytes: Buffer;
  readonly lfs: boolean;
}

export interface FakeHub {
  readonly url: string;
  readonly files: Map<string, Map<string, StoredFile>>;
  /** Visibility of the repositories that were made. */
  readonly made: Map<string, string>;
  /** `METHOD path` of each request, with its range. */
  readonly asked: string[];
  /** Downloads of a part end after so many bytes, once. */
  cutAfter: number | undefined;
  /** Changes the list that is given. */
  list: (entries: Record<string, unknown>[]) => unknown;
  close(): Promise<void>;
}

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

export async function startHub(): Promise<FakeHub> {
  const objects = new Map<string, Buffer>();
  const hub: FakeHub = {
    url: '',
    files: new Map(),
    made: new Map(),
    asked: [],
    cutAfter: undefined,
    list: (entries) => entries,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
  const server = createServer((request, response) => {
    void answer(request, response).catch((error: unknown) => {
      response.writeHead(500).end(String(error));
    });
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname } = new URL(request.url!, hub.url);
    const { range, authorization } = request.headers;
    hub.asked.push(`${request.method} ${pathname}${range === undefined ? '' : ` ${range}`}`);
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    const json = (value: unknown, status = 200): void =>
      void response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(value));
    const path = (pattern: RegExp): string[] | undefined => pattern.exec(pathname)?.slice(1).map(decodeURIComponent);
    // Objects are uploaded to and from storage by their address alone.
    const stored = path(/^\/storage\/([0-9a-f]{64})$/);
    if (stored) {
      if (sha256(body) !== stored[0]) return json({ error: 'another hash' }, 400);
      objects.set(stored[0], body);
      return void response.writeHead(200).end();
    }
    if (authorization !== `Bearer ${TOKEN}`) return json({ error: 'Unauthorized' }, 401);
    if (pathname === '/api/whoami-v2') return json({ type: 'user', name: 'somebody', auth: { type: 'access_token' } });
    if (pathname === '/api/repos/create') {
      const { name, organization, visibility } = JSON.parse(body.toString()) as Record<string, string>;
      hub.files.set(`${organization}/${name}`, new Map());
      hub.made.set(`${organization}/${name}`, visibility);
      return json({ url: `${hub.url}/${organization}/${name}`, id: '1' });
    }
    const [name] = path(/^(?:\/api\/models)?\/([^/]+\/[^/]+?)(?:\.git)?(?:\/|$)/) ?? [''];
    const repository = hub.files.get(name);
    if (!repository) return json({ error: 'Repository not found' }, 404);
    if (path(/\/preupload\/(main)$/)) {
      const { files } = JSON.parse(body.toString()) as { files: { path: string }[] };
      const mode = (file: string): string => (/\.(safetensors|png)$/.test(file) ? 'lfs' : 'regular');
      return json({ files: files.map(({ path: file }) => ({ path: file, uploadMode: mode(file) })) });
    }
    if (pathname.endsWith('/info/lfs/objects/batch')) {
      const batch = JSON.parse(body.toString()) as { objects: { oid: string; size: number }[]; transfers: string[] };
      if (batch.transfers.includes('xet')) throw new Error('this Hub speaks no xet');
      return json({
        transfer: 'basic',
        objects: batch.objects.map(({ oid, size }) => ({
          oid,
          size,
          ...(!objects.has(oid) && { actions: { upload: { href: `${hub.url}/storage/${oid}` } } }),
        })),
      });
    }
    if (path(/\/commit\/(main)$/)) {
      for (const line of body.toString().split('\n')) {
        const { key, value } = JSON.parse(line) as { key: string; value: Record<string, string> };
        if (key === 'lfsFile') repository.set(value.path, { bytes: objects.get(value.oid)!, lfs: true });
        if (key === 'file') repository.set(value.path, { bytes: Buffer.from(value.content, 'base64'), lfs: false });
      }
      return json({ commitOid: '0123', commitUrl: `${hub.url}/${name}/commit/0123` });
    }
    if (path(/\/tree\/([^/]+)$/))
      return json(
        hub.list(
          [...repository].map(([file, { bytes, lfs }]) => ({
            type: 'file',
            path: file,
            size: bytes.length,
            oid: createHash('sha1').update(bytes).digest('hex'),
            ...(lfs && { lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 130 } }),
          })),
        ),
      );
    const [, file] = path(/\/resolve\/([^/]+)\/(.+)$/) ?? [];
    if (file !== undefined) {
      const found = repository.get(file);
      if (!found) return void response.writeHead(404, { 'X-Error-Code': 'EntryNotFound' }).end();
      return send(response, found.bytes, range);
    }
    return json({ id: name });
  }

  function send(response: ServerResponse, bytes: Buffer, range: string | undefined): void {
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(range ?? '') ?? [];
    const begin = Number(from ?? 0),
      end = to === undefined ? bytes.length : Math.min(Number(to) + 1, bytes.length);
    response.writeHead(range === undefined ? 200 : 206, {
      ETag: `"${sha256(bytes)}"`,
      'Content-Length': end - begin,
      ...(range !== undefined && { 'Content-Range': `bytes ${begin}-${end - 1}/${bytes.length}` }),
    });
    const { cutAfter } = hub;
    if (cutAfter !== undefined && end - begin > cutAfter) {
      hub.cutAfter = undefined;
      response.write(bytes.subarray(begin, begin + cutAfter), () => setTimeout(() => response.destroy(), 50));
    } else response.end(bytes.subarray(begin, end));
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return Object.assign(hub, { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
}
