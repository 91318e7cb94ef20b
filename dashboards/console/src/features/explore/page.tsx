import { ActionIcon, Button, Menu, SegmentedControl, Skeleton } from "@mantine/core";
import { IconHistory, IconPlayerPlay, IconPlus, IconX } from "@tabler/icons-react";
import { getRouteApi } from "@tanstack/react-router";
import { lazy, Suspense, useRef, useState } from "react";
import { explore as m } from "@/i18n/explore";
import { PinButton } from "@/parts/boards/PinButton";
import { Page, useRange } from "@/parts/page";
import { QueryChart } from "@/parts/promql/QueryChart";
import { QueryTable } from "@/parts/promql/QueryTable";
import { useSetSearch } from "@/parts/search";
import { Card, Copy } from "@/ui/Bits";
import { Empty } from "@/ui/Feedback";
import { useNow } from "@/ui/now";
import { resolveRange, toRFC3339 } from "@/ui/time";
import classes from "./explore.module.css";
import { Metrics } from "./Metrics";
import { firstQuery, queriesOf, slots, toSearch } from "./model";
import type { PromEditorHandle } from "./PromEditor";
import { recent, remember } from "./recent";

const PromEditor = lazy(() => import("./PromEditor"));
const route = getRouteApi("/explore");

export function ExplorePage() {
  const search = route.useSearch();
  const asked = queriesOf(search);
  // A query that is being written and was not asked yet.
  const [blank, setBlank] = useState(false);
  const queries = blank && asked.length < slots.length && asked[0] !== "" ? [...asked, ""] : asked;
  const editors = useRef<(PromEditorHandle | null)[]>([]);
  const [focused, setFocused] = useState(0);
  const current = Math.min(focused, queries.length - 1);
  const set = useSetSearch<typeof search>();
  const ask = (all: readonly string[]) => {
    setBlank(false);
    set(toSearch(all));
  };
  const run = (at: number, query: string) => {
    remember(query.trim());
    ask(queries.map((q, i) => (i === at ? query : q)));
  };
  const view = search.view === "table" ? "table" : "chart";
  return (
    <Page title={m.title} sentence={m.sentence}>
      <div className={classes.layout}>
        <Metrics onAsk={(metric) => run(current, firstQuery(metric))} onInsert={(text) => editors.current[current]?.insert(text)} />
        <div className={classes.main}>
          <div className={classes.row}>
            <SegmentedControl
              size="xs"
              aria-label={m.view}
              value={view}
              onChange={(v) => set({ view: v === "table" ? "table" : undefined })}
              data={[
                { value: "chart", label: m.chart },
                { value: "table", label: m.table },
              ]}
            />
            <Button size="xs" variant="default" leftSection={<IconPlus size={14} aria-hidden />} disabled={queries.length >= slots.length || queries.includes("")} onClick={() => setBlank(true)}>
              {m.add}
            </Button>
            <Recent onChoose={(q) => run(current, q)} />
            {asked[0] === "" ? null : <Share />}
          </div>
          {queries.map((query, i) => (
            <Asked
              // A query's place is what it is known by: its text changes.
              key={i}
              n={i + 1}
              query={query}
              view={view}
              sort={search.sort}
              onSort={(sort) => set({ sort })}
              onRun={(q) => run(i, q)}
              onFocus={() => setFocused(i)}
              onRemove={queries.length === 1 ? undefined : () => ask(queries.filter((_, at) => at !== i))}
              editor={(handle) => {
                editors.current[i] = handle;
              }}
            />
          ))}
          {queries.length === 1 && queries[0] === "" ? <Empty title={m.nothing}>{m.nothingText}</Empty> : null}
        </div>
      </div>
    </Page>
  );
}

interface AskedProps {
  readonly n: number;
  readonly query: string;
  readonly view: "chart" | "table";
  readonly sort: string | undefined;
  readonly onSort: (sort: string) => void;
  readonly onRun: (query: string) => void;
  readonly onFocus: () => void;
  readonly onRemove: (() => void) | undefined;
  readonly editor: (handle: PromEditorHandle | null) => void;
}

/** A query, and its answer. */
function Asked({ n, query, view, sort, onSort, onRun, onFocus, onRemove, editor }: AskedProps) {
  const [typed, setTyped] = useState({ of: query, text: query });
  // A query that came by the URL (Back, a link) replaces what was typed.
  const text = typed.of === query ? typed.text : query;
  const run = (q: string) => {
    setTyped({ of: q.trim(), text: q.trim() });
    onRun(q.trim());
  };
  return (
    <section className={classes.asked} aria-label={m.query(n)}>
      <div className={classes.bar}>
        <Suspense fallback={<Skeleton height={36} radius={6} />}>
          <PromEditor ref={editor} value={text} onChange={(t) => setTyped({ of: query, text: t })} onRun={run} onFocus={onFocus} />
        </Suspense>
        <Button size="sm" leftSection={<IconPlayerPlay size={14} aria-hidden />} onClick={() => run(text)}>
          {m.run}
        </Button>
        {onRemove === undefined ? null : (
          <ActionIcon size="lg" variant="default" aria-label={m.remove(n)} title={m.remove(n)} onClick={onRemove}>
            <IconX size={15} aria-hidden />
          </ActionIcon>
        )}
      </div>
      {query === "" ? null : (
        <>
          {view === "table" ? (
            <QueryTable query={query} sort={sort} onSort={onSort} />
          ) : (
            <Card>
              <QueryChart query={query} />
            </Card>
          )}
          <div className={classes.row}>
            <Copy value={query} what={m.theQuery} />
            <PinButton panel={{ title: query.slice(0, 80), kind: "query", query, view }} />
          </div>
        </>
      )}
    </section>
  );
}

/** What was asked in this browser before, to ask again. */
function Recent({ onChoose }: { onChoose: (query: string) => void }) {
  const [all, setAll] = useState<readonly string[]>([]);
  return (
    <Menu shadow="md" position="bottom-start" width={480} onOpen={() => setAll(recent())}>
      <Menu.Target>
        <Button size="xs" variant="default" leftSection={<IconHistory size={14} aria-hidden />}>
          {m.recent}
        </Button>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>{m.recentText}</Menu.Label>
        {all.map((q) => (
          <Menu.Item key={q} className={classes.recent} title={q} onClick={() => onChoose(q)}>
            {q}
          </Menu.Item>
        ))}
      </Menu.Dropdown>
    </Menu>
  );
}

/** A link that shows to others what is shown here, whenever they open it. */
function Share() {
  const range = useRange();
  const now = useNow();
  const { start, end } = resolveRange(range, now);
  const url = new URL(globalThis.location.href);
  url.searchParams.set("from", toRFC3339(Math.floor(start)));
  url.searchParams.set("to", toRFC3339(Math.floor(end)));
  return <Copy value={url.toString()} what={m.theLink} />;
}
