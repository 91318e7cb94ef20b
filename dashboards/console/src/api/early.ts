/** What the first page did not ask for so long is no answer to a later question. */
const freshMillis = 15_000;

interface Asked {
  readonly at: number;
  readonly answer: Promise<Response>;
  readonly stop: AbortController;
}

const api = "/apis/crowsnest.dev/v1";

/** As many of a long list as are asked for first: more than a window shows, and soon there. */
export const firstItems = 100;

// The pages of objects whose API has the same path.
const object = /^\/clusters\/[^/]+(?:\/nodes\/[^/]+|\/namespaces\/[^/]+(?:\/(?:pods|services)\/[^/]+|\/workloads\/[^/]+\/[^/]+)?)?(?=$|\/containers\/[^/]+$)/;
const cluster = /^\/clusters\/[^/]+/;

/** What a page asks as soon as it is drawn: the frame of every page, and what the page is about. */
export function firstQuestions(path: string, search: string): string[] {
  const questions = [`${api}/status`, `${api}/incidents?state=active`];
  if (path === "/") return [...questions, `${api}/clusters`];
  const [about] = object.exec(path) ?? [];
  if (about === undefined) return questions;
  const [owner] = cluster.exec(path) ?? [];
  const pages = [...new Set([owner, about])].map((p) => `${api}${p}`);
  const tab = new URLSearchParams(search).get("tab");
  if (tab === null) return [...questions, ...pages, `${api}/catalogue`];
  if (about === owner && (tab === "nodes" || tab === "workloads" || tab === "pods")) return [...questions, ...pages, `${api}${about}/${tab}?limit=${firstItems}`];
  return [...questions, ...pages];
}

const asked = new Map<string, Asked>();

/** Asks what the first page will ask, while the scripts of that page still load. */
export function askEarly(path: string): void {
  const stop = new AbortController();
  const answer = fetch(path, { signal: stop.signal });
  // Whoever takes it is told; nobody may.
  answer.catch(() => undefined);
  asked.set(path, { at: performance.now(), answer, stop });
  // One that nobody takes must not keep one of the few connections that a browser has.
  setTimeout(() => {
    if (asked.get(path)?.stop === stop) drop(path, stop);
  }, freshMillis);
}

function drop(path: string, stop: AbortController): void {
  asked.delete(path);
  stop.abort();
}

/** An answer that may be on its way already, and how to give it up. */
export interface Early {
  readonly answer: Promise<Response>;
  readonly stop: () => void;
}

/** The answer to a question that was asked early, for the first who asks it; it is given up when they give up. */
export function takeEarly(path: string, signal: AbortSignal): Early | undefined {
  const found = asked.get(path);
  if (found === undefined) return undefined;
  if (performance.now() - found.at > freshMillis) {
    drop(path, found.stop);
    return undefined;
  }
  asked.delete(path);
  const stop = () => found.stop.abort();
  if (signal.aborted) stop();
  else signal.addEventListener("abort", stop, { once: true });
  return { answer: found.answer, stop };
}
