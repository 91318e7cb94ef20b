import { Button, NativeSelect } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { policies as m } from "@/i18n/policies";
import { useTargets } from "@/parts/queries";
import { Card } from "@/ui/Bits";
import { StateLabel } from "@/ui/state";
import { useFirstUse, useMakeDefaultRoute } from "./queries";
import classes from "./firstUse.module.css";

/** Asks once whom to tell of what no route takes, for as long as nobody would be told. */
export function FirstUse() {
  const first = useFirstUse();
  const targets = useTargets();
  const make = useMakeDefaultRoute();
  const [chosen, setChosen] = useState("");
  const f = first.data;
  if (!f || f.done || f.untold === 0) return null;
  const names = (targets.data ?? []).map((t) => t.metadata.name);
  return (
    <section aria-label={m.firstUse.title}>
      <Card>
        <p>
          <StateLabel state="warning">{m.firstUse.title}</StateLabel>
        </p>
        <p className={classes.text}>{m.firstUse.untold(f.untold)}</p>
        {names.length === 0 ? (
          <p>
            {m.firstUse.noTarget}{" "}
            <Link to="/notifications" search={{ tab: "targets" }}>
              {m.firstUse.makeTarget}
            </Link>
          </p>
        ) : f.defaultRoute === null ? (
          <form
            className={classes.row}
            onSubmit={(e) => {
              e.preventDefault();
              if (chosen !== "") make.mutate(chosen);
            }}
          >
            <NativeSelect size="xs" aria-label={m.firstUse.target} value={chosen} onChange={(e) => setChosen(e.currentTarget.value)} data={[{ value: "", label: m.firstUse.choose }, ...names]} />
            <Button size="xs" type="submit" disabled={chosen === ""} loading={make.isPending}>
              {m.firstUse.make}
            </Button>
          </form>
        ) : null}
        {make.error ? <StateLabel state="critical">{make.error.message}</StateLabel> : null}
      </Card>
    </section>
  );
}
