import { Button, Skeleton } from "@mantine/core";
import { IconDownload } from "@tabler/icons-react";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { everyCluster, keys } from "@/api/keys";
import { queryRange } from "@/api/prometheus";
import { charts } from "@/i18n/charts";
import { explore } from "@/i18n/explore";
import { Legend } from "@/parts/charts/ChartFrame";
import { CursorStore } from "@/parts/charts/cursor";
import { save } from "@/parts/charts/export";
import { axisTop, csv, statistics } from "@/parts/charts/model";
import Plot from "@/parts/charts/Plot";
import { useRange, useRefresh, useSetRange } from "@/parts/page";
import { useCatalogue } from "@/parts/queries";
import { duration } from "@/ui/format";
import { Empty, Failure } from "@/ui/Feedback";
import { useNow } from "@/ui/now";
import { alignRange, isLive, resolveRange, stepFor, toRFC3339 } from "@/ui/time";
import { linesOf, seriesName, unitOf } from "./model";
import classes from "./promql.module.css";

const m = explore.answer;
const maxLines = 40;
const nowSeconds = () => Math.floor(Date.now() / 1000);

/** The answer to any PromQL over the page's range. */
export function QueryChart({ query, height = 320 }: { query: string; height?: number }) {
  const catalogue = useCatalogue();
  const range = useRange();
  const refresh = useRefresh();
  const setRange = useSetRange();
  const now = useNow();
  const { start, end } = resolveRange(range, now);
  const step = stepFor(end - start, 15, 400);
  const [cursor] = useState(() => new CursorStore());
  const answer = useQuery({
    queryKey: keys.range(everyCluster, query, range.from, range.to, step),
    queryFn: ({ signal }) => {
      const at = alignRange(resolveRange(range, nowSeconds()), step);
      return queryRange(query, at.start, at.end, step, signal);
    },
    placeholderData: keepPreviousData,
    refetchInterval: isLive(range) ? refresh : false,
    retry: false,
  });
  const drawn = useMemo(() => (answer.data ? linesOf(answer.data, maxLines) : { lines: [], left: 0 }), [answer.data]);
  if (answer.error) return <Failure what={m.what} error={answer.error} onRetry={() => void answer.refetch()} />;
  if (!answer.data) return <Skeleton height={height + 40} radius={8} />;
  if (drawn.lines.length === 0) return <Empty title={m.none}>{m.noneText}</Empty>;
  const unit = unitOf(query, catalogue.data ?? []);
  const all = drawn.lines.map((l) => statistics(l.values));
  const top = axisTop(Math.max(...all.map((s) => s.max ?? 0)), 0);
  const bottom = Math.min(0, ...all.map((s) => s.min ?? 0));
  const { times } = answer.data;
  return (
    <div>
      <Plot times={times} lines={drawn.lines} unit={unit} top={top} bottom={bottom * 1.08} drawing="line" height={height} start={start} end={end} label={charts.of(query)} onCursor={cursor.set} onZoom={(from, to) => setRange({ from: toRFC3339(Math.floor(from)), to: toRFC3339(Math.ceil(to)) })} />
      <Legend lines={drawn.lines} unit={unit} times={times} cursor={cursor} left={drawn.left} />
      <div className={classes.row}>
        <span className={classes.quiet}>
          {m.series(answer.data.series.length, duration(step))}
        </span>
        <Button size="compact-xs" variant="default" leftSection={<IconDownload size={13} />} onClick={() => save("explore.csv", "text/csv", csv(times, answer.data.series.map((s) => ({ name: seriesName(s.labels), values: s.values }))))}>
          {charts.csv}
        </Button>
      </div>
    </div>
  );
}
