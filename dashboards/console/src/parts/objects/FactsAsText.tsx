import { useMemo } from "react";
import { stringify } from "yaml";
import { objects as m } from "@/i18n/objects";
import { Card, Copy, Section } from "@/ui/Bits";
import classes from "./objects.module.css";

/** Everything that the server says of an object, to read and to copy. */
export default function FactsAsText({ facts }: { facts: object }) {
  const text = useMemo(() => stringify(facts, { lineWidth: 0, sortMapEntries: false }), [facts]);
  return (
    <Section title={m.facts_.title} note={m.facts_.note} right={<Copy value={text} what={m.facts_.what} />}>
      <Card>
        <pre className={classes.facts} tabIndex={0} aria-label={m.facts_.title}>
          {text}
        </pre>
      </Card>
    </Section>
  );
}
