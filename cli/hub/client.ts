// The Hugging Face Hub through its own client, which is an optional dependency: which Hub, whose token, and what its
// answers may be. Tokens are read where the Hub's own tools read them and go into requests alone.

import { open } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { HubError, UsageError } from '../errors.ts';

export type Hub = typeof import('@huggingface/hub');

/** What every call of the client is given. */
export interface HubAccess {
  readonly hub: Hub;
  readonly hubUrl: string;
  readonly accessToken?: string;
  readonly fetch: typeof fetch;
}

/** More is no answer to what is asked here. */
const LONGEST_ANSWER = 16 * 2 ** 20;
const LONGEST_TOKEN = 10_000;

/** @throws UsageError where the client isn't installed, or a token is none */
export async function openHub(): Promise<HubAccess> {
  const hub = await import('@huggingface/hub').catch((error: unknown) => {
    throw new UsageError('The Hub needs its client; install it with `npm install @huggingface/hub`.', { cause: error });
  });
  const accessToken = await hubToken();
  if (accessToken !== undefined && !accessToken.startsWith('hf_'))
    throw new UsageError(
      "The Hub's token does not begin with hf_; make one at https://huggingface.co/settings/tokens.",
    );
  return { hub, hubUrl: hubUrl(), ...(accessToken !== undefined && { accessToken }), fetch: guardedFetch };
}

function hubUrl(): string {
  const given = process.env.HF_ENDPOINT;
  if (!given) return 'https://huggingface.co';
  if (!URL.canParse(given) || !/^https?:$/.test(new URL(given).protocol))
    throw new UsageError(`HF_ENDPOINT is ${JSON.stringify(given)}, expected the address of a Hub.`);
  return given.replace(/\/+$/, '');
}

/** HF_TOKEN, else the file that `hf auth login` writes. */
export async function hubToken(env: NodeJS.ProcessEnv = process.env): Promise<string | undefined> {
  const set = (env.HF_TOKEN ?? env.HUGGING_FACE_HUB_TOKEN ?? '').trim();
  if (set !== '') return set;
  const home = env.HF_HOME || join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface');
  const file = await open(env.HF_TOKEN_PATH || join(home, 'token'), 'r').catch(() => undefined);
  if (!file) return undefined;
  try {
    const { buffer, bytesRead } = await file.read(new Uint8Array(LONGEST_TOKEN), 0, LONGEST_TOKEN, 0);
    return new TextDecoder().decode(buffer.subarray(0, bytesRead)).trim() || undefined;
  } catch {
    return undefined;
  } finally {
    await file.close();
  }
}

/** Answers of the API have a bounded size, and a server that sends another range than was asked for is an error. */
const guardedFetch: typeof fetch = async (input, init) => {
  const response = await fetch(input, init);
  const url = new URL(input instanceof Request ? input.url : input);
  const range = new Headers(init?.headers).get('Range');
  if (range !== null && response.ok && response.status !== 206)
    throw new HubError(`${url.host} does not send parts of files, which going on with a download needs.`);
  if (!url.pathname.startsWith('/api/') || !response.body) return response;
  let length = 0;
  const limited = response.body.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        length += chunk.length;
        if (length > LONGEST_ANSWER)
          controller.error(new HubError(`${url.host} answers with more than ${LONGEST_ANSWER} bytes.`));
        else controller.enqueue(chunk);
      },
    }),
  );
  return new Response(limited, { status: response.status, statusText: response.statusText, headers: response.headers });
};

/** A repository as a person writes it, `OWNER/NAME`. @throws UsageError */
export function repoName(text: string): string {
  const name = text.replace(/^hf:/, '');
  if (/^[A-Za-z0-9](?:[\w.-]{0,95})\/[A-Za-z0-9](?:[\w.-]{0,95})$/.test(name) && !/\.\.|--|\.git$/.test(name))
    return name;
  throw new UsageError(`${JSON.stringify(text)} is no repository of the Hub, expected OWNER/NAME.`);
}

/** Calls the client; what it throws becomes a sentence that never holds the token. */
export async function asking<T>(
  { hub, hubUrl, accessToken }: HubAccess,
  what: string,
  call: () => Promise<T>,
): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (error instanceof HubError || error instanceof UsageError || (error as Error)?.name === 'AbortError')
      throw error;
    if (!(error instanceof hub.HubApiError)) {
      const code = ((error as Error)?.cause as { code?: unknown } | undefined)?.code;
      if (!(error instanceof TypeError) && code === undefined) throw error;
      throw new HubError(
        `${hubUrl} cannot be reached${typeof code === 'string' ? ` (${code})` : ''}; check the network, then run the command again.`,
        { cause: error },
      );
    }
    const { statusCode } = error;
    const why =
      statusCode === 401 || statusCode === 403
        ? accessToken === undefined
          ? 'it asks for a token; set HF_TOKEN, or log in with `hf auth login`'
          : 'the token does not allow it; make one that may at https://huggingface.co/settings/tokens'
        : statusCode === 404
          ? 'there is no such repository, or it is private and the token may not see it'
          : `it answers with status ${statusCode}`;
    throw new HubError(`${hubUrl} refuses ${what}: ${why}.`);
  }
}
