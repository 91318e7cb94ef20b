import { connection } from "./connection";

/** So long after a question got no answer at all it is asked again. */
export const againMillis = 10_000;

/** A question of the cache, as far as it is looked at here. */
interface Question {
  readonly state: { readonly data: unknown; readonly fetchStatus: string };
  isActive(): boolean;
  fetch(): Promise<unknown>;
}

/**
 * Asks again what somebody looks at and never had an answer to: after a while, and as soon as the server is heard again. How often a
 * page refreshes is about answers that are there; with "off" a page that was opened while a server started would stay empty.
 */
export const againUntilThere =
  (refused: (error: Error) => boolean) =>
  (error: Error, query: Question): void => {
    if (query.state.data !== undefined || refused(error)) return;
    let off = (): void => undefined;
    const ask = () => {
      clearTimeout(timer);
      off();
      // Whoever asked may have gone, or have asked again meanwhile; an error of that is told here as well.
      if (query.isActive() && query.state.data === undefined && query.state.fetchStatus === "idle") query.fetch().catch(() => undefined);
    };
    const timer = setTimeout(ask, againMillis);
    if (!connection.get().reachable) {
      off = connection.subscribe(() => {
        if (connection.get().reachable) ask();
      });
    }
  };
