import { asking as m } from "@/i18n/asking";
import { connection } from "./connection";
import { type Early, takeEarly } from "./early";
import { problemOf, RequestError } from "./problem";

/** After so long without an answer the server is asked whether it is there at all: a query may take its time, a server that hangs may not. */
export const patience = 10_000;
/** A question that only reads is given up after so long, and asked again by whoever refreshes. */
export const longest = 90_000;

/**
 * The one way to the server. Resolves with an answer of 2xx only; everything else rejects with a
 * RequestError that carries the server's own words.
 */
export async function request(input: string | Request, init?: RequestInit): Promise<Response> {
  const asked = input instanceof Request ? input : undefined;
  const given = init?.signal ?? asked?.signal;
  const ours = new AbortController();
  const ask = setTimeout(() => void probe(), patience);
  // What changes something is never given up by us: nobody would know whether it was done.
  const reads = (init?.method ?? asked?.method ?? "GET") === "GET";
  const end = reads ? setTimeout(() => ours.abort(), longest) : undefined;
  const signal = given ? AbortSignal.any([given, ours.signal]) : ours.signal;
  let response: Response;
  try {
    const anew = () => fetch(input instanceof Request ? input.clone() : input, { ...init, signal });
    const early = reads ? takeEarly(pathOf(input), signal) : undefined;
    response = await (early === undefined ? anew() : firstOf(early, anew));
  } catch (cause) {
    if (cause instanceof DOMException && cause.name === "AbortError" && !ours.signal.aborted) throw cause;
    connection.failed();
    throw new RequestError(m.unreachable, 0, "unreachable");
  } finally {
    // The answer has begun; how long it goes on is its own affair, as of a tail.
    clearTimeout(ask);
    clearTimeout(end);
  }
  // A proxy that stands in front answers these when the server behind it is gone.
  if (response.status === 502 || response.status === 504) connection.failed();
  else connection.answered(Date.now(), response.status < 500);
  if (!response.ok) throw problemOf(response.status, await response.text());
  return response;
}

/**
 * The answer to a question that was asked early; the question anew when that answer does not come soon, as when the server was about to go
 * down and what it had accepted is never answered. What a page opens with costs little to ask twice; what hangs would keep one of the few
 * connections that a browser has, and is given up first.
 */
function firstOf(early: Early, anew: () => Promise<Response>): Promise<Response> {
  return new Promise((resolve, reject) => {
    let again = false;
    const timer = setTimeout(() => {
      again = true;
      early.stop();
      anew().then(resolve, reject);
    }, patience / 2);
    early.answer.then(
      (answer) => {
        clearTimeout(timer);
        resolve(answer);
      },
      (cause: unknown) => {
        clearTimeout(timer);
        if (!again) reject(cause instanceof Error ? cause : new Error(String(cause)));
      },
    );
  });
}

/** What is asked as early questions are named: by path and search. All there is to ask is this one server. */
function pathOf(input: string | Request): string {
  if (!(input instanceof Request)) return input;
  const { pathname, search } = new URL(input.url);
  return pathname + search;
}

/** Whether the server answers anything. Any answer will do. */
async function probe(): Promise<void> {
  try {
    await fetch("/healthz", { signal: AbortSignal.timeout(patience / 2) });
  } catch {
    connection.failed();
  }
}
