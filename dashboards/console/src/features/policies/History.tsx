import { Button } from "@mantine/core";
import { lazy, Suspense, useState } from "react";
import type { components } from "@/api/schema";
import { policies as m } from "@/i18n/policies";
import { useHistory } from "@/parts/policies/queries";
import { Card, Section } from "@/ui/Bits";
import { age, count } from "@/ui/format";
import { Loaded, TableSkeleton } from "@/ui/Feedback";
import { useNow } from "@/ui/now";
import { yaml } from "./model";
import classes from "./policies.module.css";

const Diff = lazy(async () => ({ default: (await import("./Diff")).Diff }));

type Version = components["schemas"]["Version"];

const versionText = (v: Version): string => yaml({ labels: v.labels, spec: v.spec });

/** Who changed the policy when, and what. */
export function History({ name }: { name: string }) {
  const history = useHistory(name);
  const now = useNow();
  // By its time: a policy that was deleted and made anew has its revisions twice.
  const [open, setOpen] = useState<string | undefined>();
  return (
    <Section title={m.history.title} note={history.data ? count(history.data.length) : undefined}>
      <Loaded query={history} what={m.history.what} skeleton={<TableSkeleton rows={2} />}>
        {(all) => (
          <Card>
            <ol className={classes.history}>
              {all.map((v, i) => {
                const before = all[i + 1];
                return (
                  <li key={`${v.revision} ${v.at}`}>
                    <div className={classes.row}>
                      <b>{m.history.revision(v.revision)}</b>
                      <span className={classes.quiet}>
                        {m.history.by(age(v.at, now), v.by, v.managedBy === "console" ? "" : v.managedBy, v.deleted)}
                      </span>
                      {before && !v.deleted ? (
                        <Button size="compact-xs" variant="default" aria-expanded={open === v.at} onClick={() => setOpen(open === v.at ? undefined : v.at)}>
                          {open === v.at ? m.history.hide : m.history.show}
                        </Button>
                      ) : null}
                    </div>
                    {open === v.at && before ? (
                      <Suspense fallback={null}>
                        <Diff before={versionText(before)} after={versionText(v)} />
                      </Suspense>
                    ) : null}
                  </li>
                );
              })}
            </ol>
          </Card>
        )}
      </Loaded>
    </Section>
  );
}
