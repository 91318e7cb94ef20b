interface Asked {
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
  asked.set(path, { answer, stop });
}

/** The answer to a question that was asked early, for the first who asks it; it is given up when they give up. */
export function takeEarly(path: string, signal: AbortSignal): Promise<Response> | undefined {
  const found = asked.get(path);
  if (found === undefined) return undefined;
  asked.delete(path);
  const stop = () => found.stop.abort();
  if (signal.aborted) stop();
  else signal.addEventListener("abort", stop, { once: true });
  return found.answer;
}
