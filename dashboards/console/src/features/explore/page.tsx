import { Button, ScrollArea, SegmentedControl, Skeleton, TextInput, UnstyledButton } from "@mantine/core";
import { IconPlayerPlay, IconSearch } from "@tabler/icons-react";
import { getRouteApi } from "@tanstack/react-router";
import { lazy, Suspense, useMemo, useState } from "react";
import type { Metric } from "@/api/types";
import { PinButton } from "@/parts/boards/PinButton";
import { Page } from "@/parts/page";
import { QueryChart } from "@/parts/promql/QueryChart";
import { QueryTable } from "@/parts/promql/QueryTable";
import { useCatalogue } from "@/parts/queries";
import { Card, Copy } from "@/ui/Bits";
import { Empty } from "@/ui/Feedback";
import { filterRows } from "@/ui/table";
import classes from "./explore.module.css";
import { firstQuery } from "./model";

const PromEditor = lazy(() => import("./PromEditor"));
const route = getRouteApi("/explore");
const noMetrics: readonly Metric[] = [];

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
            {query === "" ? null : <PinButton panel={{ title: query.slice(0, 80), kind: "query", query, view }} />}
          </div>
          {query === "" ? (
            <Empty title="Nothing asked yet">Choose a metric on the left, or write an expression above.</Empty>
          ) : view === "table" ? (
            <QueryTable query={query} sort={search.sort} onSort={(sort) => set({ sort })} />
          ) : (
            <Card>
              <QueryChart query={query} />
            </Card>
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
