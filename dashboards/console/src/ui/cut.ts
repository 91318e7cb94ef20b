/** A last part longer than this says no more by being kept whole. */
const longest = 12;
const least = 6;

/** What is always shown of a name: its last part, as "-x2k4d" of a pod's; "" of a name that is too short to be cut. */
export function endOf(name: string): string {
  const at = Math.max(name.lastIndexOf("-"), name.lastIndexOf("."));
  // As much stays in front of it as is kept at the least: what is long beside the rest is cut, too.
  const end = at >= least && name.length - at <= longest ? name.slice(at) : name.slice(-least);
  // Never between the two halves of a character.
  const whole = /^[\uDC00-\uDFFF]/.test(end) ? end.slice(1) : end;
  return name.length < whole.length + least ? "" : whole;
}

/** A word of Kubernetes in the parts between which it may be broken: CrashLoop, BackOff. */
export const humps = (word: string): string[] => word.split(/(?<=[a-z])(?=[A-Z])/);
