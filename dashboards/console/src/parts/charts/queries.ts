import { keepPreviousData, useQueries } from "@tanstack/react-query";
import { type ClusterId, keys } from "@/api/keys";
import { queryRange, type RangeResult } from "@/api/prometheus";
import { useRange, useRefresh } from "@/parts/page";
import { alignRange, isLive, resolveRange, stepFor, type TimeRange } from "@/ui/time";
import { type ObjectLabels, type Panel, promql } from "./model";

// About as many points as a panel has room for.
const points = 240;

export function chartStep(range: TimeRange, intervalSeconds: number): number {
  // Only the length matters, which is the same at any time for a range that ends now.
  const { start, end } = resolveRange(range, Math.floor(Date.now() / 1000));
  return stepFor(end - start, Math.max(1, intervalSeconds), points);
}

export interface PanelAnswer {
  readonly results: readonly (RangeResult | undefined)[];
  readonly error: Error | null;
  readonly loading: boolean;
  readonly refetch: () => void;
}

/** One query for each metric of the panel, over the page's range or so many seconds before it. */
export function usePanel(cluster: ClusterId, panel: Panel, object: ObjectLabels, by: readonly string[], stepSeconds: number, back = 0, enabled = true): PanelAnswer {
  const range = useRange();
  const refresh = useRefresh();
  return useQueries({
    queries: panel.metrics.map((metric) => {
      const query = promql(metric, object, stepSeconds, by, panel.only);
      return {
        queryKey: keys.range(cluster, back === 0 ? query : `${query} ${back} s back`, range.from, range.to, stepSeconds),
        enabled,
        queryFn: ({ signal }: { signal: AbortSignal }) => {
          const { start, end } = alignRange(resolveRange(range, Math.floor(Date.now() / 1000)), stepSeconds);
          // The step that is under way is asked for too: its points so far are the newest there are.
          const last = isLive(range) && back === 0 ? end + stepSeconds : end;
          return queryRange(query, start - back, last - back, stepSeconds, signal);
        },
        refetchInterval: isLive(range) ? refresh : (false as const),
        placeholderData: keepPreviousData,
      };
    }),
    combine: (answers): PanelAnswer => ({
      results: answers.map((a) => a.data),
      error: answers.find((a) => a.error && a.data === undefined)?.error ?? null,
      loading: answers.some((a) => a.data === undefined && !a.error),
      refetch: () => {
        for (const a of answers) void a.refetch();
      },
    }),
  });
}
