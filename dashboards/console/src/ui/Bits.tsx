import { ActionIcon, CopyButton, Tooltip } from "@mantine/core";
import { IconCheck, IconCopy } from "@tabler/icons-react";
import type { ReactNode } from "react";
import { ui as m } from "@/i18n/ui";
import classes from "./Bits.module.css";

/** A section of a page with its heading; the right side holds its filter or note. */
export function Section({
  title,
  note,
  right,
  children,
}: {
  title: string;
  note?: ReactNode;
  right?: ReactNode;
  children: ReactNode;
}) {
  return (
    <section className={classes.section} aria-label={title}>
      <header className={classes.sectionHead}>
        <h2>{title}</h2>
        {note === undefined ? null : <span className={classes.note}>{note}</span>}
        {right === undefined ? null : <div className={classes.right}>{right}</div>}
      </header>
      {children}
    </section>
  );
}

/** A fact in words: a small label above its value. */
export function Fact({ label, children }: { label: string; children: ReactNode }) {
  return (
    <div className={classes.fact}>
      <dt>{label}</dt>
      <dd>{children}</dd>
    </div>
  );
}

export const Facts = ({ children }: { children: ReactNode }) => <dl className={classes.facts}>{children}</dl>;

export const Muted = ({ children }: { children: ReactNode }) => <span className={classes.muted}>{children}</span>;

export const Card = ({ children, pad = true }: { children: ReactNode; pad?: boolean }) => (
  <div className={classes.card} data-pad={pad || undefined}>
    {children}
  </div>
);

export function Copy({ value, what }: { value: string; what: string }) {
  return (
    <CopyButton value={value} timeout={1500}>
      {({ copied, copy }) => (
        <Tooltip label={copied ? m.copied : m.copy(what)}>
          <ActionIcon variant="subtle" size="sm" onClick={copy} aria-label={m.copy(what)}>
            {copied ? <IconCheck size={14} /> : <IconCopy size={14} />}
          </ActionIcon>
        </Tooltip>
      )}
    </CopyButton>
  );
}

/** A command to type, with a button that copies it. */
/** A name in a table, with what is wrong below it where there is no room for a column that says so. */
export function Named({ why, children }: { why: string | undefined; children: ReactNode }) {
  return (
    <>
      {children}
      {why ? <span className={classes.why}>{why}</span> : null}
    </>
  );
}

export function Command({ children }: { children: string }) {
  return (
    <div className={classes.command}>
      {/* It scrolls where it is longer than the page is wide. */}
      <code tabIndex={0}>{children}</code>
      <Copy value={children} what={m.theCommand} />
    </div>
  );
}
