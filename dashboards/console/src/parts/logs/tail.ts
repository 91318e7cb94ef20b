import { useEffect, useState, useSyncExternalStore } from "react";
import { type Row, tailLogs } from "@/api/logsql";
import { logs as m } from "@/i18n/logs";

export interface TailState {
  /** Newest first, at most `keep`. */
  readonly rows: readonly Row[];
  readonly status: "connecting" | "live" | "ended" | "failed";
  readonly paused: boolean;
  /** Rows that arrived while paused and wait. */
  readonly waiting: number;
  /** Rows that were not drawn because more came than a page can hold. */
  readonly notDrawn: number;
  /** Rows a second over the last seconds. */
  readonly rate: number;
  readonly error: string | undefined;
}

const keep = 1000;
const rateSeconds = 5;
/** However fast lines come, the page is drawn anew so often and no more. */
export const drawMillis = 250;
const idle: TailState = { rows: [], status: "connecting", paused: false, waiting: 0, notDrawn: 0, rate: 0, error: undefined };

/** Rows as they arrive, in a buffer with a bound. What does not fit is counted, never dropped silently. */
export class Tail {
  #state: TailState = idle;
  #pending: Row[] = [];
  #arrivals: { at: number; n: number }[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #notDrawn = 0;
  readonly #listeners = new Set<() => void>();

  readonly get = (): TailState => this.#state;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly pause = (paused: boolean): void => {
    this.#set({ paused });
    if (!paused) this.#show();
  };

  /** Follows until the signal aborts. */
  async run(query: string, signal: AbortSignal): Promise<void> {
    try {
      const stream = tailLogs(query, signal);
      this.#set({ status: "live" });
      for await (const rows of stream) this.add(rows, Date.now());
      if (!signal.aborted) this.#set({ status: "ended" });
    } catch (e) {
      if (signal.aborted) return;
      this.#set({ status: "failed", error: e instanceof Error ? e.message : m.tail.broke });
    }
  }

  add(rows: readonly Row[], nowMillis: number): void {
    this.#arrivals.push({ at: nowMillis, n: rows.length });
    for (const r of rows) this.#pending.push(r);
    const over = Math.max(0, this.#pending.length - keep);
    if (over > 0) this.#pending.splice(0, over);
    this.#notDrawn += over;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#draw(Date.now());
    }, drawMillis);
  }

  /** Ends what would still be drawn. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #draw(nowMillis: number): void {
    this.#arrivals = this.#arrivals.filter((a) => a.at > nowMillis - rateSeconds * 1000);
    const rate = this.#arrivals.reduce((sum, a) => sum + a.n, 0) / rateSeconds;
    this.#set({ rate, waiting: this.#pending.length, notDrawn: this.#notDrawn });
    if (!this.#state.paused) this.#show();
  }

  #show(): void {
    const newest = [...this.#pending].reverse();
    this.#pending = [];
    this.#set({ rows: [...newest, ...this.#state.rows].slice(0, keep), waiting: 0 });
  }

  #set(change: Partial<TailState>): void {
    this.#state = { ...this.#state, ...change };
    for (const l of this.#listeners) l();
  }
}

/** Follows the query as long as the component is shown. */
export function useTail(query: string): { state: TailState; pause: (paused: boolean) => void } {
  const [tail] = useState(() => new Tail());
  useEffect(() => {
    const stop = new AbortController();
    void tail.run(query, stop.signal);
    return () => {
      stop.abort();
      tail.stop();
    };
  }, [tail, query]);
  return { state: useSyncExternalStore(tail.subscribe, tail.get), pause: tail.pause };
}
