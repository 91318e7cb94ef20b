import { digits } from "./language";
import { messages } from "./messages";

/** Words of what is shared by all pages: numbers, times, states, tables. */
export const ui = messages("ui", {
  yes: "yes",
  no: "no",
  close: "close",
  units: { cores: "cores", bytes: "bytes", bytesPerSecond: "bytes per second" },
  seconds: (n: string) => `${n} s`,
  minutes: (n: number) => `${n} min`,
  hours: (n: number) => `${n} h`,
  days: (n: number) => `${digits(n)} d`,
  states: { critical: "critical", warning: "warning", stale: "stale", waiting: "waiting for data", info: "info", ok: "ok", idle: "idle" },
  ranges: {
    minutes: (n: number) => `last ${n} min`,
    hours: (n: number) => `last ${n} h`,
    days: (n: number) => `last ${n} days`,
  },
  notLoaded: (what: string) => `${what} could not be loaded`,
  tryAgain: "Try again",
  loading: "loading",
  nothing: "Nothing here.",
  copied: "copied",
  copy: (what: string) => `copy ${what}`,
  theCommand: "the command",
  unknown: "unknown",
  none: "none",
  bar: (name: string, used: string, requested: string, allocatable: string) => `${name}: ${used} used, ${requested} requested, ${allocatable} allocatable`,
  barRequested: (share: string) => ` · ${share} requested`,
  barOf: (allocatable: string) => ` of ${allocatable}`,
  part: (n: string, name: string) => `${n} ${name}`,
});
