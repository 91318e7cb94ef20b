import { keepPreviousData, useQueries } from "@tanstack/react-query";
import { body, client } from "@/api/client";
import { type ClusterId, everyCluster, keys } from "@/api/keys";
import { queryRange, type RangeResult } from "@/api/prometheus";
import { useRange, useRefresh } from "@/parts/page";
import { alignRange, isLive, resolveRange, stepFor, type TimeRange } from "@/ui/time";
import type { Metric } from "@/api/types";
import { asked, type ObjectLabels, type Panel, promql } from "./model";

// About as many points as a panel has room for.
const points = 240;

export function chartStep(range: TimeRange, intervalSeconds: number): number {
  // Only the length matters, which is the same at any time for a range that ends now.
  const { start, end } = resolveRange(range, Math.floor(Date.now() / 1000));
  return stepFor(end - start, Math.max(1, intervalSeconds), points);
}

// From here on the server may have read ahead what a step of one cluster holds; PromQL always reads samples.
const longStep = 300;

async function queryChart(
  cluster: ClusterId,
  metric: Metric,
  object: ObjectLabels,
  by: readonly string[],
  only: ObjectLabels | undefined,
  start: number,
  end: number,
  stepSeconds: number,
  signal: AbortSignal,
): Promise<RangeResult> {
  const { series, split, statistic } = asked(metric, object, by, only);
  const at = (seconds: number) => new Date(seconds * 1000).toISOString();
  const chart = await body(
    client.GET("/apis/crowsnest.dev/v1/clusters/{cluster}/chart", {
      params: { path: { cluster }, query: { series, start: at(start), end: at(end), step_seconds: stepSeconds, statistic, by: split } },
      signal,
    }),
  );
  const length = Math.max(0, Math.round((end - start) / stepSeconds) + 1);
  return { times: Array.from({ length }, (_, i) => start + i * stepSeconds), stepSeconds, series: chart.lines, readSeconds: chart.resolution_seconds };
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
          return stepSeconds >= longStep && cluster !== everyCluster
            ? queryChart(cluster, metric, object, by, panel.only, start - back, last - back, stepSeconds, signal)
            : queryRange(query, start - back, last - back, stepSeconds, signal);
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
