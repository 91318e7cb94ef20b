/** How a maintenance window recurs, as the two fields of its form say it. */
export interface Recurrence {
  /** MO to SU; none of them: every day. */
  readonly days: readonly string[];
  /** 02:00 */
  readonly time: string;
}

export function rrule({ days, time }: Recurrence): string {
  const [hour = "", minute = ""] = time.split(":");
  return `FREQ=${days.length > 0 ? `WEEKLY;BYDAY=${days.join(",")}` : "DAILY"};BYHOUR=${Number(hour)};BYMINUTE=${Number(minute)};BYSECOND=0`;
}

const two = (n: string): string => n.padStart(2, "0");

/** undefined: it recurs in another way than the fields can say. */
export function recurrence(rule: string): Recurrence | undefined {
  const found = /^(?:RRULE:)?FREQ=(?:DAILY|WEEKLY;BYDAY=((?:MO|TU|WE|TH|FR|SA|SU)(?:,(?:MO|TU|WE|TH|FR|SA|SU))*));BYHOUR=(\d{1,2});BYMINUTE=(\d{1,2})(?:;BYSECOND=0)?$/.exec(rule);
  if (!found) return undefined;
  const [, days, hour = "", minute = ""] = found;
  return { days: days === undefined ? [] : days.split(","), time: `${two(hour)}:${two(minute)}` };
}
