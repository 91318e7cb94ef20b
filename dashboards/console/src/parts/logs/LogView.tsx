import { Button, Menu, Skeleton, TextInput } from "@mantine/core";
import { IconDownload, IconPlayerPause, IconPlayerPlay, IconPlayerStop, IconSearch, IconTextWrap, IconTextWrapDisabled } from "@tabler/icons-react";
import { type SyntheticEvent, useState } from "react";
import type { ClusterId } from "@/api/keys";
import type { Row } from "@/api/logsql";
import { PinButton } from "@/parts/boards/PinButton";
import { useRange, useSetRange } from "@/parts/page";
import { count, number } from "@/ui/format";
import { Empty, Failure } from "@/ui/Feedback";
import { useNow } from "@/ui/now";
import { clock } from "@/ui/format";
import { isLive, resolveRange, widen } from "@/ui/time";
import { Histogram } from "./Histogram";
import { LogLines } from "./LogLines";
import classes from "./logs.module.css";
import { type LogScope, logsQuery, withField, wordsOf } from "./model";
import { downloadUrl, useHistogram, useLogs } from "./queries";
import { useTail } from "./tail";

interface Props {
  readonly cluster: ClusterId | undefined;
  readonly scope: LogScope;
  /** What of the query was typed; it stands in the URL. */
  readonly typed: string;
  readonly onTyped: (typed: string) => void;
  readonly wrap: boolean;
  readonly onWrap: (wrap: boolean) => void;
  readonly live: boolean;
  readonly onLive: (live: boolean) => void;
  readonly origin?: (row: Row) => string;
  /** What is searched, in words: "the logs of cart-7c9f". */
  readonly what: string;
}

const page = 300;

/** A search of log lines: query line, histogram, newest lines, live tail. */
export function LogView(props: Props) {
  const { cluster, scope, typed, onTyped, wrap, onWrap, live, onLive, origin, what } = props;
  const range = useRange();
  const setRange = useSetRange();
  const query = logsQuery(scope, typed, "logs");
  const now = useNow();
  const hits = useHistogram(cluster, query, "level");
  return (
    <div className={classes.view}>
      <div className={classes.bar1}>
        <QueryLine key={typed} typed={typed} onTyped={onTyped} label={`search ${what}`} />
        <Button
          size="xs"
          variant="default"
          leftSection={wrap ? <IconTextWrap size={14} /> : <IconTextWrapDisabled size={14} />}
          onClick={() => onWrap(!wrap)}
          aria-pressed={wrap}
        >
          {wrap ? "wrapped" : "one line"}
        </Button>
        <PinButton panel={{ title: typed === "" ? `Logs: ${what.replace(/^the logs of /, "")}`.slice(0, 120) : typed.slice(0, 120), kind: "logs", query }} />
        <Menu shadow="md">
          <Menu.Target>
            <Button size="xs" variant="default" leftSection={<IconDownload size={14} />}>
              Download
            </Button>
          </Menu.Target>
          <Menu.Dropdown>
            {(["text", "json"] as const).map((format) => (
              <Menu.Item key={format} component="a" href={downloadUrl(query, range, format, cluster, now)} download>
                All lines of the range as {format === "text" ? "text" : "JSON lines"}
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
            onLive(!live);
          }}
        >
          {live ? "Stop tail" : "Live tail"}
        </Button>
      </div>
      {hits.data ? (
        <Histogram data={hits.data} onZoom={setRange} />
      ) : hits.error ? null : (
        <Skeleton height={90} radius={8} />
      )}
      {live ? (
        <LiveLines key={query} query={query} wrap={wrap} {...(origin ? { origin } : {})} onField={(f, v, x) => onTyped(withField(typed, f, v, x))} />
      ) : (
        <NewestLines {...props} query={query} />
      )}
    </div>
  );
}

export function QueryLine({ typed, onTyped, label, placeholder }: { typed: string; onTyped: (t: string) => void; label: string; placeholder?: string }) {
  const [text, setText] = useState(typed);
  const submit = (e: SyntheticEvent) => {
    e.preventDefault();
    onTyped(text.trim());
  };
  return (
    <form onSubmit={submit} className={classes.query} role="search">
      <TextInput
        size="xs"
        aria-label={label}
        placeholder={placeholder ?? 'Words, "a phrase", level:error, status:>=500 … (LogsQL), Enter searches'}
        leftSection={<IconSearch size={14} />}
        value={text}
        onChange={(e) => setText(e.currentTarget.value)}
        onKeyDown={(e) => {
          if (e.key === "Escape" && text !== typed) {
            e.stopPropagation();
            setText(typed);
          }
        }}
        spellCheck={false}
        autoComplete="off"
        classNames={{ input: classes.queryInput }}
      />
    </form>
  );
}

function NewestLines({ cluster, query, wrap, origin, typed, onTyped, what }: Props & { query: string }) {
  const [limit, setLimit] = useState(page);
  const logs = useLogs(cluster, query, limit);
  const range = useRange();
  const setRange = useSetRange();
  const now = useNow();
  if (logs.error && !logs.data) return <Failure what="Log lines" error={logs.error} onRetry={() => void logs.refetch()} />;
  if (!logs.data) return <Skeleton height={420} radius={8} />;
  if (logs.data.length === 0) {
    const { start, end } = resolveRange(range, now);
    return (
      <Empty
        title="No log lines"
        action={
          <div className={classes.actions}>
            <Button size="xs" variant="default" onClick={() => setRange(widen(range, now))}>
              Search twice as long
            </Button>
            {typed === "" ? null : (
              <Button size="xs" variant="default" onClick={() => onTyped("")}>
                Search without “{typed}”
              </Button>
            )}
          </div>
        }
      >
        Searched {what} from {clock(start, now)} to {clock(end, now)}
        {typed === "" ? "" : ` for ${typed}`}.
      </Empty>
    );
  }
  return (
    <>
      {logs.error ? <Failure what="Newer log lines" error={logs.error} onRetry={() => void logs.refetch()} /> : null}
      <LogLines
        rows={logs.data}
        wrap={wrap}
        marked={wordsOf(typed)}
        {...(origin ? { origin } : {})}
        onField={(field, value, exclude) => onTyped(withField(typed, field, value, exclude))}
      />
      <div className={classes.foot}>
        {logs.data.length < limit ? (
          <span>All {count(logs.data.length)} lines of this range are shown, newest first.</span>
        ) : (
          <>
            <span>The newest {count(limit)} lines are shown.</span>
            <Button size="xs" variant="default" loading={logs.isPlaceholderData} onClick={() => setLimit(limit * 2)}>
              Show {count(limit)} more
            </Button>
          </>
        )}
      </div>
    </>
  );
}

function LiveLines({ query, wrap, origin, onField }: { query: string; wrap: boolean; origin?: (row: Row) => string; onField: (f: string, v: string, x: boolean) => void }) {
  const { state, pause } = useTail(query);
  const status = { connecting: "connecting…", live: "following", ended: "the server ended the stream", failed: state.error ?? "the stream broke" }[state.status];
  return (
    <>
      <div className={classes.tailBar} role="status">
        <Button
          size="compact-xs"
          variant="default"
          leftSection={state.paused ? <IconPlayerPlay size={12} /> : <IconPlayerPause size={12} />}
          onClick={() => pause(!state.paused)}
        >
          {state.paused ? "Go on" : "Pause"}
        </Button>
        <span>{state.paused ? "paused" : status}</span>
        <span>{number(state.rate)} lines/s</span>
        {state.waiting > 0 ? <span>{count(state.waiting)} lines wait</span> : null}
        {state.notDrawn > 0 ? <span>{count(state.notDrawn)} lines not drawn</span> : null}
      </div>
      {state.rows.length === 0 ? (
        <Empty title="Waiting for the next line">Lines appear here as they arrive, some seconds after they were written.</Empty>
      ) : (
        <LogLines rows={state.rows} wrap={wrap} {...(origin ? { origin } : {})} onField={onField} {...(state.paused ? {} : { onAway: () => pause(true) })} />
      )}
    </>
  );
}
