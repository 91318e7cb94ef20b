import { IconFilterMinus, IconFilterPlus, IconShieldPlus } from "@tabler/icons-react";
import { ActionIcon, Button, Tooltip } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, useMemo, useRef, useState } from "react";
import type { Row } from "@/api/logsql";
import { quote } from "@/api/prometheus";
import { logs as m } from "@/i18n/logs";
import { Copy } from "@/ui/Bits";
import { dateTime, lineTime } from "@/ui/format";
import classes from "./logs.module.css";
import { expanded, fields, keyed, levelName, levelOf, message, ownTime, pieces, policySearch, rowTime } from "./model";
import { useContext } from "./queries";
import { likeness } from "./terms";

interface Props {
  readonly rows: readonly Row[];
  readonly wrap: boolean;
  /** What names a line's origin; left out where all lines have the same. */
  readonly origin?: (row: Row) => string;
  readonly onField?: (field: string, value: string, exclude: boolean) => void;
  /** The reader went down from the newest line, in a list that scrolls by itself. */
  readonly onAway?: () => void;
  /** Words to mark in the messages. */
  readonly marked?: readonly string[];
}

/** More lines than this scroll in a window of their own, of which only the visible part is drawn. */
const virtualFrom = 120;
const lineHeight = 21;

/** Log lines, newest first. A click or Enter opens a line's fields; arrow keys move between lines. */
export function LogLines({ rows, wrap, origin, onField, onAway, marked }: Props) {
  const [open, setOpen] = useState<string | undefined>();
  const lines = useMemo(() => keyed(rows), [rows]);
  const scroller = useRef<HTMLDivElement>(null);
  const virtual = lines.length > virtualFrom;
  // eslint-disable-next-line react-hooks/incompatible-library -- the virtualiser's result is used in this render only
  const virtualizer = useVirtualizer({
    count: lines.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => lineHeight,
    // A line that is wrapped or open is as high as it is; it keeps its height when newer ones come above it.
    getItemKey: (i) => lines[i]?.key ?? i,
    overscan: 24,
    enabled: virtual,
  });

  const onKeyDown = (e: KeyboardEvent<HTMLElement>) => {
    if (e.key !== "ArrowDown" && e.key !== "ArrowUp") return;
    const at = e.target instanceof HTMLElement ? e.target.closest("[data-line]") : null;
    const next = e.key === "ArrowDown" ? at?.nextElementSibling : at?.previousElementSibling;
    const button = next?.querySelector("button");
    if (!button) return;
    e.preventDefault();
    button.focus();
  };

  const line = ({ key, row }: (typeof lines)[number]) => {
    const level = levelOf(row.level);
    const time = rowTime(row);
    const shown = key === open;
    return (
      <>
        <button
          type="button"
          className={classes.lineButton}
          aria-expanded={shown}
          onClick={() => {
            if (!globalThis.getSelection()?.toString()) setOpen(shown ? undefined : key);
          }}
        >
          <span className={classes.stripe} data-level={level} />
          {/* What a pipe made has no time. */}
          {Number.isNaN(time) ? null : (
            <span className={classes.time} title={dateTime(time)}>
              {lineTime(time)}
            </span>
          )}
          <span className={classes.level} data-level={level}>
            {level === "other" ? "" : levelName(level)}
          </span>
          {origin === undefined || Number.isNaN(time) ? null : (
            <span className={classes.origin} title={origin(row)}>
              {origin(row)}
            </span>
          )}
          <span className={classes.message}>
            {pieces(message(row), marked ?? none).map((p, i) => (p.marked ? <mark key={i}>{p.text}</mark> : p.text))}
          </span>
        </button>
        {shown ? <LineFields row={row} onField={onField} /> : null}
      </>
    );
  };

  return (
    <div
      ref={scroller}
      className={classes.lines}
      data-wrap={wrap || undefined}
      data-virtual={virtual || undefined}
      role="list"
      aria-label={m.lines.list}
      onKeyDown={onKeyDown}
      {...(onAway ? { onScroll: (e) => { if (e.currentTarget.scrollTop > 2 * lineHeight) onAway(); } } : {})}
    >
      {virtual ? (
        <div style={{ height: virtualizer.getTotalSize(), position: "relative" }} role="presentation">
          {virtualizer.getVirtualItems().map((v) => {
            const item = lines[v.index];
            return item === undefined ? null : (
              <div
                key={item.key}
                ref={virtualizer.measureElement}
                data-index={v.index}
                role="listitem"
                aria-posinset={v.index + 1}
                aria-setsize={lines.length}
                data-line
                className={classes.line}
                data-open={item.key === open || undefined}
                style={{ position: "absolute", top: 0, left: 0, width: wrap || item.key === open ? "100%" : "max-content", minWidth: "100%", transform: `translateY(${v.start}px)` }}
              >
                {line(item)}
              </div>
            );
          })}
        </div>
      ) : (
        lines.map((item) => (
          <div key={item.key} role="listitem" data-line className={classes.line} data-open={item.key === open || undefined}>
            {line(item)}
          </div>
        ))
      )}
    </div>
  );
}

const none: readonly string[] = [];

/** The lines before and after, as the container wrote them. */
function Around({ row }: { row: Row }) {
  const [wanted, setWanted] = useState(false);
  const context = useContext(row, wanted);
  return (
    <div className={classes.around}>
      <Button size="compact-xs" variant="default" aria-expanded={wanted} loading={wanted && context.isLoading} onClick={() => setWanted(!wanted)}>
        {wanted ? m.line.hideAround : m.line.around}
      </Button>
      {wanted && context.error ? <p role="alert">{context.error.message}</p> : null}
      {wanted && context.data ? (
        <ol>
          {keyed(context.data).map(({ key, row: r }) => (
            <li key={key} data-here={r._time === row._time && r._msg === row._msg ? true : undefined}>
              <span className={classes.time}>{lineTime(rowTime(r))}</span> {message(r)}
            </li>
          ))}
        </ol>
      ) : null}
    </div>
  );
}

/** A policy on lines that say the same, of the same workload. */
function policyOf(row: Row, like: string): Record<string, string> {
  const { cluster, namespace, workload_type, workload } = row;
  const level = levelOf(row.level);
  return policySearch("logs", { cluster, namespace, workload_type, workload }, `${level === "other" ? "" : `level:=${quote(row.level ?? "")} `}${quote(like)}`);
}

function LineFields({ row, onField }: { row: Row; onField: Props["onField"] }) {
  const like = likeness(message(row));
  const own = ownTime(row);
  return (
    <div className={classes.fields}>
      <pre className={classes.full}>{expanded(message(row))}</pre>
      <div className={classes.lineActions}>
        {like === "" ? null : (
          <Button size="compact-xs" variant="default" leftSection={<IconShieldPlus size={13} />} renderRoot={(props) => <Link to="/new/policy" search={policyOf(row, like)} {...props} />}>
            {m.line.policy}
          </Button>
        )}
        {row._stream_id === undefined ? null : <Around row={row} />}
      </div>
      <table>
        <tbody>
          {row._time === undefined ? null : <tr>
            <th>{m.line.time}</th>
            <td>{row._time}</td>
            <td>
              <Copy value={`${row._time} ${message(row)}`} what={m.line.theLine} />
            </td>
          </tr>}
          {own === undefined ? null : <tr>
            <th>{m.line.ownTime}</th>
            <td>{own}</td>
            <td><Copy value={own} what={m.line.ownTime} /></td>
          </tr>}
          {fields(row).map(([name, value]) => (
            <tr key={name}>
              <th>{name}</th>
              <td>{value}</td>
              <td className={classes.fieldActions}>
                {onField === undefined ? null : (
                  <>
                    <Tooltip label={m.line.add}>
                      <ActionIcon variant="subtle" size="sm" aria-label={m.line.addField(name)} onClick={() => onField(name, value, false)}>
                        <IconFilterPlus size={14} />
                      </ActionIcon>
                    </Tooltip>
                    <Tooltip label={m.line.exclude}>
                      <ActionIcon variant="subtle" size="sm" aria-label={m.line.excludeField(name)} onClick={() => onField(name, value, true)}>
                        <IconFilterMinus size={14} />
                      </ActionIcon>
                    </Tooltip>
                  </>
                )}
                <Copy value={value} what={name} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
