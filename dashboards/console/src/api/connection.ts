/**
 * Whether the server answers. Every request reports here, so that the frame can say "unreachable,
 * last answer 12 s ago" once instead of each view for itself.
 */
export interface Connection {
  readonly reachable: boolean;
  /** Milliseconds since the epoch; undefined before the first answer. */
  readonly lastAnswerAt: number | undefined;
}

let current: Connection = { reachable: true, lastAnswerAt: undefined };
const listeners = new Set<() => void>();

export const connection = {
  get: (): Connection => current,
  subscribe: (listener: () => void): (() => void) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
  answered(now: number): void {
    const wasReachable = current.reachable;
    current = { reachable: true, lastAnswerAt: now };
    if (!wasReachable) notify();
  },
  failed(): void {
    if (!current.reachable) return;
    current = { ...current, reachable: false };
    notify();
  },
};

function notify(): void {
  for (const listener of listeners) listener();
}
