import {
  IconAlertOctagonFilled,
  IconAlertTriangleFilled,
  IconCircleCheckFilled,
  IconCircleDashed,
  IconClockPause,
  IconInfoCircleFilled,
} from "@tabler/icons-react";
import { Fragment, type ReactNode } from "react";
import { ui as m } from "@/i18n/ui";
import { humps } from "./cut";
import classes from "./state.module.css";

/** What an object's state is; the worst first. Colour means one of these and nothing else. */
export const states = ["critical", "warning", "stale", "waiting", "info", "ok", "idle"] as const;
export type State = (typeof states)[number];

export const rank = (s: State): number => states.indexOf(s);

const icons = {
  critical: IconAlertOctagonFilled,
  warning: IconAlertTriangleFilled,
  stale: IconClockPause,
  waiting: IconCircleDashed,
  info: IconInfoCircleFilled,
  ok: IconCircleCheckFilled,
  idle: IconCircleDashed,
} as const;

export const stateWords: Record<State, string> = m.states;

const known = new Set<string>(states);
/** A state by the server's word; a word that this console does not know is not good. */
export const stateOf = (word: string): State => (known.has(word) ? (word as State) : "stale");

/** The state's icon. It has a word for readers who do not see it, unless one stands beside it. */
export function StateIcon({ state, size = 16, silent = false }: { state: State; size?: number; silent?: boolean }) {
  const Icon = icons[state];
  return (
    <Icon
      size={size}
      className={classes.icon}
      data-state={state}
      {...(silent ? { "aria-hidden": true } : { role: "img", "aria-label": stateWords[state] })}
    />
  );
}

/** CrashLoopBackOff may be broken where its parts meet: a phone's column has no room for it in one line. */
const breakable = (word: string): ReactNode =>
  humps(word).map((part, i) => (
    <Fragment key={i}>
      {i > 0 ? <wbr /> : null}
      {part}
    </Fragment>
  ));

/** Icon and word. */
export function StateLabel({ state, children }: { state: State; children?: ReactNode }) {
  return (
    <span className={classes.label} data-state={state}>
      <StateIcon state={state} silent />
      <span>{typeof children === "string" ? breakable(children) : (children ?? stateWords[state])}</span>
    </span>
  );
}

/** A number that turns to the state's colour when it counts something bad; zero stays quiet. */
export function StateCount({ state, n, children }: { state: State; n: number; children: ReactNode }) {
  return n > 0 ? <StateLabel state={state}>{children}</StateLabel> : <span className={classes.quiet}>{children}</span>;
}
