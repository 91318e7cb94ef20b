import { expect, it } from "vitest";
import { recurrence, rrule } from "./recurrence";

it.each([
  [{ days: [], time: "02:00" }, "FREQ=DAILY;BYHOUR=2;BYMINUTE=0;BYSECOND=0"],
  [{ days: ["SA", "SU"], time: "23:05" }, "FREQ=WEEKLY;BYDAY=SA,SU;BYHOUR=23;BYMINUTE=5;BYSECOND=0"],
])("%j is written as %s, and read back", (when, rule) => {
  expect(rrule(when)).toBe(rule);
  expect(recurrence(rule)).toEqual(when);
});

it.each(["FREQ=MONTHLY;BYMONTHDAY=1", "FREQ=WEEKLY;INTERVAL=2;BYDAY=SA;BYHOUR=2;BYMINUTE=0", "FREQ=DAILY", "", "FREQ=WEEKLY;BYDAY=1SU;BYHOUR=2;BYMINUTE=0"])("%s is more than the fields can say", (rule) => expect(recurrence(rule)).toBeUndefined());
