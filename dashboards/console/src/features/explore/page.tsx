import { Button, ScrollArea, SegmentedControl, Skeleton, TextInput, UnstyledButton } from "@mantine/core";
import { IconDownload, IconPlayerPlay, IconSearch } from "@tabler/icons-react";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { lazy, Suspense, useMemo, useState } from "react";
import { everyCluster, keys } from "@/api/keys";
import { queryInstant, queryRange, type Sample } from "@/api/prometheus";
import type { Metric } from "@/api/types";
import { Legend } from "@/parts/charts/ChartPanel";
import { CursorStore } from "@/parts/charts/cursor";
import { save } from "@/parts/charts/export";
import { axisTop, csv, statistics } from "@/parts/charts/model";
import Plot from "@/parts/charts/Plot";
import { Page, useRange, useRefresh, useSetRange } from "@/parts/page";
import { useCatalogue } from "@/parts/queries";
import { Card, Copy } from "@/ui/Bits";
import { type Column, DataTable } from "@/ui/DataTable";
import { byUnit, count, duration, plural } from "@/ui/format";
import { Empty, Failure } from "@/ui/Feedback";
import { useNow } from "@/ui/now";
import { filterRows, parseSort, sortText } from "@/ui/table";
import { alignRange, isLive, resolveRange, stepFor, toRFC3339 } from "@/ui/time";
import classes from "./explore.module.css";
import { differing, firstQuery, linesOf, seriesName, unitOf } from "./model";

const PromEditor = lazy(() => import("./PromEditor"));
const route = getRouteApi("/explore");
const noMetrics: readonly Metric[] = [];
const maxLines = 40;
const nowSeconds = () => Math.floor(Date.now() / 1000);

export function ExplorePage() {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const catalogue = useCatalogue();
  const query = search.q ?? "";
  const [typed, setTyped] = useState({ of: query, text: query });
  // A query that came by the URL (Back, a link) replaces what was typed.
  const text = typed.of === query ? typed.text : query;
  const set = (change: Partial<typeof search>) => void navigate({ search: (old) => ({ ...old, ...change }), resetScroll: false });
  const run = (q: string) => {
    setTyped({ of: q.trim(), text: q.trim() });
    set({ q: q.trim() === "" ? undefined : q.trim() });
  };
  const view = search.view === "table" ? "table" : "chart";
  return (
    <Page title="Explore" sentence="Any PromQL over every cluster's metrics.">
      <div className={classes.layout}>
        <Metrics catalogue={catalogue.data ?? noMetrics} loading={catalogue.isLoading} onChoose={(m) => run(firstQuery(m))} />
        <div className={classes.main}>
          <div className={classes.bar}>
            <Suspense fallback={<Skeleton height={36} radius={6} />}>
              <PromEditor value={text} onChange={(t) => setTyped({ of: query, text: t })} onRun={run} />
            </Suspense>
            <Button size="sm" leftSection={<IconPlayerPlay size={14} />} onClick={() => run(text)}>
              Run
            </Button>
          </div>
          <div className={classes.row}>
            <SegmentedControl
              size="xs"
              aria-label="how the answer is shown"
              value={view}
              onChange={(v) => set({ view: v === "table" ? "table" : undefined })}
              data={[
                { value: "chart", label: "Chart" },
                { value: "table", label: "Table" },
              ]}
            />
            {query === "" ? null : <Copy value={query} what="the query" />}
          </div>
          {query === "" ? (
            <Empty title="Nothing asked yet">Choose a metric on the left, or write an expression above.</Empty>
          ) : view === "table" ? (
            <Table query={query} catalogue={catalogue.data ?? noMetrics} sort={search.sort} onSort={(sort) => set({ sort })} />
          ) : (
            <Chart query={query} catalogue={catalogue.data ?? noMetrics} />
          )}
        </div>
      </div>
    </Page>
  );
}

/** The catalogue's metrics in the words of people. */
function Metrics({ catalogue, loading, onChoose }: { catalogue: readonly Metric[]; loading: boolean; onChoose: (m: Metric) => void }) {
  const [filter, setFilter] = useState("");
  const found = useMemo(() => filterRows(catalogue, (m) => `${m.name} ${m.title} ${m.level} ${m.help} ${m.chart.group}`, filter), [catalogue, filter]);
  const levels = [...new Set(found.map((m) => m.level))];
  return (
    <details className={classes.metrics} open={globalThis.matchMedia("(min-width: 62em)").matches}>
      <summary>Metrics</summary>
      <TextInput size="xs" aria-label="find a metric" placeholder="Find a metric" leftSection={<IconSearch size={14} />} value={filter} onChange={(e) => setFilter(e.currentTarget.value)} />
      {loading ? <Skeleton height={300} mt={8} /> : null}
      <ScrollArea.Autosize mah="70vh" type="auto" viewportProps={{ tabIndex: 0, role: "region", "aria-label": "metrics" }}>
        {levels.map((level) => (
          <div key={level} className={classes.level}>
            <h3>{level}</h3>
            {found
              .filter((m) => m.level === level)
              .map((m) => (
                <UnstyledButton key={m.name} className={classes.metric} title={`${m.name}\n${m.help}`} onClick={() => onChoose(m)}>
                  <span>{m.title}</span>
                  <span className={classes.unit}>{m.unit === "count" ? "" : m.unit}</span>
                </UnstyledButton>
              ))}
          </div>
        ))}
        {!loading && found.length === 0 ? <p className={classes.quiet}>No metric of the catalogue matches.</p> : null}
      </ScrollArea.Autosize>
    </details>
  );
}

function Chart({ query, catalogue }: { query: string; catalogue: readonly Metric[] }) {
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
  if (answer.error) return <Failure what="The answer" error={answer.error} onRetry={() => void answer.refetch()} />;
  if (!answer.data) return <Skeleton height={360} radius={8} />;
  if (drawn.lines.length === 0) return <Empty title="No series">The expression has no value in this range.</Empty>;
  const unit = unitOf(query, catalogue);
  const all = drawn.lines.map((l) => statistics(l.values));
  const top = axisTop(Math.max(...all.map((s) => s.max ?? 0)), 0);
  const bottom = Math.min(0, ...all.map((s) => s.min ?? 0));
  const { times } = answer.data;
  return (
    <Card>
      <Plot times={times} lines={drawn.lines} unit={unit} top={top} bottom={bottom * 1.08} drawing="line" height={320} start={start} end={end} label={`chart of ${query}`} onCursor={cursor.set} onZoom={(from, to) => setRange({ from: toRFC3339(Math.floor(from)), to: toRFC3339(Math.ceil(to)) })} />
      <Legend lines={drawn.lines} unit={unit} times={times} cursor={cursor} left={drawn.left} />
      <div className={classes.row}>
        <span className={classes.quiet}>
          {plural(answer.data.series.length, "series", "series")}, a point each {duration(step)}
        </span>
        <Button size="compact-xs" variant="default" leftSection={<IconDownload size={13} />} onClick={() => save("explore.csv", "text/csv", csv(times, answer.data.series.map((s) => ({ name: seriesName(s.labels), values: s.values }))))}>
          CSV
        </Button>
      </div>
    </Card>
  );
}

interface Numbered extends Sample {
  readonly key: string;
}

function Table({ query, catalogue, sort, onSort }: { query: string; catalogue: readonly Metric[]; sort: string | undefined; onSort: (sort: string) => void }) {
  const refresh = useRefresh();
  const answer = useQuery({
    queryKey: keys.instant(everyCluster, query),
    queryFn: ({ signal }) => queryInstant(query, signal),
    refetchInterval: refresh,
    placeholderData: keepPreviousData,
    retry: false,
  });
  const rows = useMemo((): Numbered[] => (answer.data ?? []).map((s) => ({ ...s, key: seriesName(s.labels) })), [answer.data]);
  const columns = useMemo((): Column<Numbered>[] => {
    const names = differing(rows.map((r) => r.labels)).filter((n) => n !== "__name__");
    const shown = names.length > 0 ? names : Object.keys(rows[0]?.labels ?? {}).filter((n) => n !== "__name__");
    const unit = unitOf(query, catalogue);
    return [
      ...shown.slice(0, 8).map(
        (n, i): Column<Numbered> => ({ id: n, header: n, width: "minmax(100px, 1fr)", phoneWidth: "minmax(0, 1fr)", wide: i < shown.length - 1, wraps: true, sort: (r) => r.labels[n], cell: (r) => <LabelCell name={n} row={r} /> }),
      ),
      { id: "value", header: "Value", numeric: true, width: "140px", phoneWidth: "100px", sort: (r) => r.value, cell: (r) => <span title={String(r.value)}>{byUnit(r.value, unit)}</span> },
    ];
  }, [rows, query, catalogue]);
  if (answer.error) return <Failure what="The answer" error={answer.error} onRetry={() => void answer.refetch()} />;
  if (!answer.data) return <Skeleton height={360} radius={8} />;
  return (
    <>
      <div className={classes.row}>
        <span className={classes.quiet}>{count(rows.length)} series, now</span>
        <Button
          size="compact-xs"
          variant="default"
          leftSection={<IconDownload size={13} />}
          onClick={() => save("explore.csv", "text/csv", `series,value\n${rows.map((r) => `"${r.key.replaceAll('"', '""')}",${r.value}`).join("\n")}\n`)}
        >
          CSV
        </Button>
      </div>
      <DataTable label="series" columns={columns} rows={rows} rowKey={(r) => r.key} sort={parseSort(sort, { column: "value", descending: true })} onSort={(s) => onSort(sortText(s))} empty="The expression has no value now." />
    </>
  );
}

/** A label's value; an object's name leads to the object. */
function LabelCell({ name, row: { labels: l } }: { name: string; row: Numbered }) {
  const value = l[name] ?? "";
  const { cluster } = l;
  if (cluster !== undefined && name === "pod" && l.namespace !== undefined)
    return (
      <Link to="/clusters/$cluster/namespaces/$ns/pods/$pod" params={{ cluster, ns: l.namespace, pod: value }}>
        {value}
      </Link>
    );
  if (cluster !== undefined && name === "node" && value !== "")
    return (
      <Link to="/clusters/$cluster/nodes/$node" params={{ cluster, node: value }}>
        {value}
      </Link>
    );
  return <span title={value}>{value}</span>;
}
