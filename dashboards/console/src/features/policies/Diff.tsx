import { policies as m } from "@/i18n/policies";
import classes from "./policies.module.css";
import { diff } from "./text";

/** What changes, line by line; the signs say it without colour. */
export function Diff({ before, after }: { before: string; after: string }) {
  const lines = diff(before, after);
  if (lines.every((l) => l.kind === "same")) return <p className={classes.quiet}>{m.history.same}</p>;
  return (
    <pre className={classes.diff} tabIndex={0}>
      {lines.map((l, i) => (
        <span key={i} data-kind={l.kind}>
          {{ same: "  ", added: "+ ", removed: "- " }[l.kind]}
          {l.text}
          {"\n"}
        </span>
      ))}
    </pre>
  );
}
