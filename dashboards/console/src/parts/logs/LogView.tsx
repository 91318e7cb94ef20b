import { Button, Menu, Skeleton } from "@mantine/core";
import { IconDownload, IconPlayerPause, IconPlayerPlay, IconPlayerStop, IconShieldPlus, IconTextWrap, IconTextWrapDisabled } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import type { ClusterId } from "@/api/keys";
import type { Row } from "@/api/logsql";
import { logs as m } from "@/i18n/logs";
import { PinButton } from "@/parts/boards/PinButton";
import { useRange, useSetRange } from "@/parts/page";
import { Empty, Failure } from "@/ui/Feedback";
import { clock, number } from "@/ui/format";
import { useNow } from "@/ui/now";
import { isLive, resolveRange, widen } from "@/ui/time";
import { Histogram } from "./Histogram";
import { LogLines } from "./LogLines";
import classes from "./logs.module.css";
import { type LogScope, logsQuery, policySearch, withField, wordsOf } from "./model";
import { downloadUrl, useHistogram, useLogs } from "./queries";
import { Search } from "./Search";
import { useLineSearch } from "./lineSearch";
import { useTail } from "./tail";

interface Props {
  readonly cluster: ClusterId | undefined;
  readonly scope: LogScope;
  /** A LogsQL filter that belongs to the view, not to the reader. */
  readonly fixed?: string;
  readonly origin?: (row: Row) => string;
  /** What is searched, in words: "the logs of cart-7c9f". */
  readonly what: string;
}

const page = 300;

/** A search of log lines: query line, histogram, newest lines, live tail. What is searched for stands in the URL. */
export function LogView({ cluster, scope, fixed, origin, what }: Props) {
  const [{ typed, form, wrap, live }, set] = useLineSearch();
  const range = useRange();
  const setRange = useSetRange();
  const query = logsQuery(scope, typed, "logs", fixed);
  const now = useNow();
  const hits = useHistogram(cluster, query, "level");
  const onField = (field: string, value: string, exclude: boolean) => set({ typed: withField(typed, field, value, exclude) });
  return (
    <div className={classes.view}>
      <Search
        cluster={cluster}
        kind="logs"
        typed={typed}
        onTyped={(next) => set({ typed: next })}
        form={form}
        onForm={(next) => set({ form: next })}
        base={logsQuery(scope, "", "logs", fixed)}
        what={what}
        placeholder={m.bar.placeholder}
        oneWorkload={scope.workload !== undefined || scope.pod !== undefined}
      >
        <Button size="xs" variant="default" leftSection={wrap ? <IconTextWrap size={14} /> : <IconTextWrapDisabled size={14} />} onClick={() => set({ wrap: !wrap })} aria-pressed={wrap}>
          {wrap ? m.bar.wrapped : m.bar.oneLine}
        </Button>
        <Button size="xs" variant="default" leftSection={<IconShieldPlus size={14} />} renderRoot={(props) => <Link to="/new/policy" search={policySearch("logs", scope, typed, fixed)} {...props} />}>
          {m.bar.alert}
        </Button>
        <PinButton panel={{ title: (typed === "" ? m.bar.board(Object.values(scope).filter(Boolean).join(" ")) : typed).trim().slice(0, 120), kind: "logs", query }} />
        <Menu shadow="md">
          <Menu.Target>
            <Button size="xs" variant="default" leftSection={<IconDownload size={14} />}>
              {m.bar.download}
            </Button>
          </Menu.Target>
          <Menu.Dropdown>
            {(["text", "json"] as const).map((format) => (
              <Menu.Item key={format} component="a" href={downloadUrl(query, range, format, cluster, now)} download>
                {format === "text" ? m.bar.asText : m.bar.asJson}
              </Menu.Item>
            ))}
          </Menu.Dropdown>
        </Menu>
        <Button
          size="xs"
          variant={live ? "filled" : "default"}
          leftSection={live ? <IconPlayerStop size={14} /> : <IconPlayerPlay size={14} />}
          onClick={() => {
            if (!live && !isLive(range)) setRange({ from: "now-15m", to: "now" });
            set({ live: !live });
          }}
        >
          {live ? m.bar.stop : m.bar.tail}
        </Button>
      </Search>
      {hits.data ? <Histogram data={hits.data} onZoom={setRange} /> : hits.error ? null : <Skeleton height={90} radius={8} />}
      {live ? (
        <LiveLines key={query} query={query} wrap={wrap} marked={wordsOf(typed)} {...(origin ? { origin } : {})} onField={onField} />
      ) : (
        <NewestLines cluster={cluster} query={query} wrap={wrap} typed={typed} onTyped={(next) => set({ typed: next })} onField={onField} what={what} {...(origin ? { origin } : {})} />
      )}
    </div>
  );
}

interface LinesProps {
  readonly query: string;
  readonly wrap: boolean;
  readonly origin?: (row: Row) => string;
  readonly onField: (field: string, value: string, exclude: boolean) => void;
}

function NewestLines({ cluster, query, wrap, origin, typed, onTyped, onField, what }: LinesProps & { cluster: ClusterId | undefined; typed: string; onTyped: (typed: string) => void; what: string }) {
  const [limit, setLimit] = useState(page);
  const logs = useLogs(cluster, query, limit);
  const range = useRange();
  const setRange = useSetRange();
  const now = useNow();
  if (logs.error && !logs.data) return <Failure what={m.lines.what} error={logs.error} onRetry={() => void logs.refetch()} />;
  if (!logs.data) return <Skeleton height={420} radius={8} />;
  if (logs.data.length === 0) {
    const { start, end } = resolveRange(range, now);
    return (
      <Empty
        title={m.lines.none}
        action={
          <div className={classes.actions}>
            <Button size="xs" variant="default" onClick={() => setRange(widen(range, now))}>
              {m.lines.twice}
            </Button>
            {typed === "" ? null : (
              <Button size="xs" variant="default" onClick={() => onTyped("")}>
                {m.lines.without(typed)}
              </Button>
            )}
          </div>
        }
      >
        {m.lines.searched(what, clock(start, now), clock(end, now), typed)}
      </Empty>
    );
  }
  return (
    <>
      {logs.error ? <Failure what={m.lines.newer} error={logs.error} onRetry={() => void logs.refetch()} /> : null}
      <LogLines
        rows={logs.data}
        wrap={wrap}
        marked={wordsOf(typed)}
        {...(origin ? { origin } : {})}
        onField={onField}
      />
      <div className={classes.foot}>
        {logs.data.length < limit ? (
          <span>{m.lines.all(logs.data.length)}</span>
        ) : (
          <>
            <span>{m.lines.newest(limit)}</span>
            <Button size="xs" variant="default" loading={logs.isPlaceholderData} onClick={() => setLimit(limit * 2)}>
              {m.lines.more(limit)}
            </Button>
          </>
        )}
      </div>
    </>
  );
}

function LiveLines({ query, wrap, origin, onField, marked }: LinesProps & { marked: readonly string[] }) {
  const { state, pause } = useTail(query);
  const status = { connecting: m.tail.connecting, live: m.tail.live, ended: m.tail.ended, failed: state.error ?? m.tail.broke }[state.status];
  return (
    <>
      <div className={classes.tailBar} role="status">
        <Button size="compact-xs" variant="default" leftSection={state.paused ? <IconPlayerPlay size={12} /> : <IconPlayerPause size={12} />} onClick={() => pause(!state.paused)}>
          {state.paused ? m.tail.goOn : m.tail.pause}
        </Button>
        <span>{state.paused ? m.tail.paused : status}</span>
        <span>{m.tail.rate(number(state.rate))}</span>
        {state.waiting > 0 ? <span>{m.tail.wait(state.waiting)}</span> : null}
        {state.notDrawn > 0 ? <span>{m.tail.notDrawn(state.notDrawn)}</span> : null}
      </div>
      {state.rows.length === 0 ? (
        <Empty title={m.tail.waiting}>{m.tail.soon}</Empty>
      ) : (
        <LogLines rows={state.rows} wrap={wrap} marked={marked} {...(origin ? { origin } : {})} onField={onField} {...(state.paused ? {} : { onAway: () => pause(true) })} />
      )}
    </>
  );
}
