import { Select, UnstyledButton } from "@mantine/core";
import { IconX } from "@tabler/icons-react";
import { logs as m } from "@/i18n/logs";
import { useClusters } from "@/parts/queries";
import classes from "./scope.module.css";

/** What a search is narrowed to: a cluster, and chips that can be taken away. */
export function Scope({ search, set }: { search: Readonly<Record<string, string | undefined>>; set: (change: Record<string, string | undefined>) => void }) {
  const clusters = useClusters();
  const data = (clusters.data ?? []).map((c) => ({ value: c.id, label: c.name }));
  return (
    <div className={classes.scope}>
      <Select
        size="xs"
        w={200}
        aria-label={m.scope.cluster}
        placeholder={m.scope.all}
        clearable
        searchable={data.length > 8}
        data={data}
        value={search.cluster ?? null}
        onChange={(c) => set({ cluster: c ?? undefined })}
      />
      {Object.entries(search).map(([field, value]) =>
        field === "cluster" || typeof value !== "string" ? null : (
          <span key={field} className={classes.chip}>
            <span className={classes.field}>{m.scope.fields[field] ?? field}</span> {value}
            <UnstyledButton aria-label={`all ${m.scope.fields[field] ?? field}s`} onClick={() => set({ [field]: undefined })} className={classes.remove}>
              <IconX size={12} />
            </UnstyledButton>
          </span>
        ),
      )}
    </div>
  );
}
