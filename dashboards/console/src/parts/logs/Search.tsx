import { Button } from "@mantine/core";
import { IconForms, IconSearch } from "@tabler/icons-react";
import { lazy, type ReactNode, Suspense } from "react";
import type { ClusterId } from "@/api/keys";
import { logs as m } from "@/i18n/logs";
import { useRange } from "@/parts/page";
import classes from "./logs.module.css";
import { QueryForm } from "./QueryForm";

const QueryEditor = lazy(() => import("./QueryEditor"));

interface Props {
  readonly cluster: ClusterId | undefined;
  /** Log lines have levels and workloads, events have types and reasons. */
  readonly kind: "logs" | "events";
  readonly typed: string;
  readonly onTyped: (typed: string) => void;
  readonly form: boolean;
  readonly onForm: (form: boolean) => void;
  /** The LogsQL of what is searched whatever is typed. */
  readonly base: string;
  /** What is searched, in words. */
  readonly what: string;
  readonly placeholder: string;
  /** Whether the place that is looked at is one workload, so that none is to be chosen. */
  readonly oneWorkload: boolean;
  readonly children?: ReactNode;
}

/** How lines and events are searched: LogsQL with completion, and a form that writes it. Either shows what the other says. */
export function Search({ cluster, kind, typed, onTyped, form, onForm, base, what, placeholder, oneWorkload, children }: Props) {
  const range = useRange();
  return (
    <>
      <div className={classes.bar1} role="search">
        <div className={classes.query}>
          <IconSearch size={14} aria-hidden className={classes.queryIcon} />
          <Suspense fallback={<div className={classes.editorSoon}>{typed === "" ? placeholder : typed}</div>}>
            <QueryEditor typed={typed} onTyped={onTyped} label={m.bar.search(what)} placeholder={placeholder} base={base} range={range} />
          </Suspense>
        </div>
        <Button size="xs" variant={form ? "light" : "default"} leftSection={<IconForms size={14} />} aria-pressed={form} onClick={() => onForm(!form)}>
          {m.bar.form}
        </Button>
        {children}
      </div>
      {form ? <QueryForm cluster={cluster} kind={kind} typed={typed} onTyped={onTyped} base={base} what={what} oneWorkload={oneWorkload} /> : null}
    </>
  );
}
