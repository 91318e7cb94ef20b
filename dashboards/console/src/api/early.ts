/** What the first page did not ask for so long is no answer to a later question. */
const freshMillis = 15_000;

interface Asked {
  readonly at: number;
  readonly answer: Promise<Response>;
  readonly stop: AbortController;
}

const asked = new Map<string, Asked>();

/** Asks what the first page will ask, while the scripts of that page still load. */
export function askEarly(path: string): void {
  const stop = new AbortController();
  const answer = fetch(path, { signal: stop.signal });
  // Whoever takes it is told; nobody may.
  answer.catch(() => undefined);
  asked.set(path, { at: performance.now(), answer, stop });
}

/** The answer to a question that was asked early, for the first who asks it; it is given up when they give up. */
export function takeEarly(path: string, signal: AbortSignal): Promise<Response> | undefined {
  const found = asked.get(path);
  if (found === undefined) return undefined;
  asked.delete(path);
  if (performance.now() - found.at > freshMillis) return undefined;
  const stop = () => found.stop.abort();
  if (signal.aborted) stop();
  else signal.addEventListener("abort", stop, { once: true });
  return found.answer;
}
