/**
 * Whether the server answers. Every request reports here, so that the frame can say "unreachable,
 * last answer 12 s ago" once instead of each view for itself.
 */
export interface Connection {
  readonly reachable: boolean;
  /** The last answers were errors of the server itself. */
  readonly troubled: boolean;
  /** Milliseconds since the epoch; undefined before the first answer. */
  readonly lastAnswerAt: number | undefined;
}

let current: Connection = { reachable: true, troubled: false, lastAnswerAt: undefined };
const errorsInARow = 3;
let errors = 0;
const listeners = new Set<() => void>();

export const connection = {
  get: (): Connection => current,
  subscribe: (listener: () => void): (() => void) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
  /** ok: not an error of the server itself. One such error may be a query's own; several in a row are the server's. */
  answered(now: number, ok: boolean): void {
    errors = ok ? 0 : errors + 1;
    const troubled = errors >= errorsInARow;
    const changed = !current.reachable || troubled !== current.troubled;
    current = { reachable: true, troubled, lastAnswerAt: now };
    if (changed) notify();
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
