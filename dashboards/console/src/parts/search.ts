import { useNavigate, useRouter } from "@tanstack/react-router";
import { useCallback } from "react";

/**
 * Parameters that say which view is looked at, of which object, and what was asked. A change of one is a step, which Back
 * takes back. All others (filter, sort, range, refresh and the like) only adjust the view: they are kept in the entry that is there.
 */
const steps: ReadonlySet<string> = new Set([
  "tab", "view", "state", // of an object, of Explore and the statistics, of incidents and deliveries
  "q", "q2", "q3", "q4", "q5", // as they were sent, not as they are typed
  "cluster", "namespace", "workload_type", "workload", "pod", "container", "node", "object",
]);

/** Who goes from tab to tab by arrow keys passes through those between: such steps are one. */
const passing = 400;

type Search = Readonly<Record<string, unknown>>;

/** Whether a change of the URL's parameters leads to another view. */
export const isStep = (old: Search, change: Search): boolean => Object.entries(change).some(([name, value]) => steps.has(name) && old[name] !== value);

declare module "@tanstack/react-router" {
  interface HistoryState {
    /** When the step to this entry was made. */
    steppedAt?: number;
  }
}

/** Changes parameters of the page's URL; undefined takes one away. Here, and nowhere else, it is decided what Back takes back. */
export function useSetSearch<S extends object>(): (change: { readonly [K in keyof S]?: S[K] | undefined }) => void {
  const navigate = useNavigate();
  const router = useRouter();
  return useCallback(
    (change) => {
      const { search, state } = router.latestLocation;
      const now = Date.now();
      const step = isStep(search, change);
      const replace = !step || now - (state.steppedAt ?? 0) < passing;
      void navigate({ to: ".", search: (old) => ({ ...old, ...change }), resetScroll: false, replace, state: (old) => (step ? { ...old, steppedAt: now } : old) });
    },
    [navigate, router],
  );
}
