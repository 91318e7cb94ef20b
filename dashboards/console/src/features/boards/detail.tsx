import { ActionIcon, Button, Skeleton, TextInput } from "@mantine/core";
import { IconArrowLeft, IconArrowRight, IconArrowsHorizontal, IconDeviceFloppy, IconDownload, IconPencil, IconPlus, IconTrash } from "@tabler/icons-react";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useState } from "react";
import { RequestError } from "@/api/problem";
import { boards as m } from "@/i18n/boards";
import { type BoardPanel, type BoardSpec, changed, exported, moved, without } from "@/parts/boards/model";
import { pin } from "@/parts/boards/pinStore";
import { useBoard, useDeleteBoard, useSaveBoard } from "@/parts/boards/queries";
import { save } from "@/parts/charts/export";
import { Page } from "@/parts/page";
import { Empty, Failure } from "@/ui/Feedback";
import { StateLabel } from "@/ui/state";
import classes from "./boards.module.css";
import { PanelView } from "./PanelView";

const route = getRouteApi("/boards/$name");

export function BoardPage() {
  const { name } = route.useParams();
  const { edit } = route.useSearch();
  const navigate = route.useNavigate();
  const board = useBoard(name);
  const store = useSaveBoard();
  const remove = useDeleteBoard();
  // What is being changed; undefined until the first change.
  const [draft, setDraft] = useState<BoardSpec | undefined>();
  const b = board.data;
  const editing = edit === "1" && b !== undefined;
  const spec = editing ? (draft ?? b.spec) : b?.spec;
  const leave = () => {
    setDraft(undefined);
    store.reset();
    void navigate({ search: (old) => ({ ...old, edit: undefined }), replace: true });
  };
  const keep = () => {
    if (!b || !draft) leave();
    else store.mutate({ ...b, spec: draft }, { onSuccess: leave });
  };
  const gone = board.error instanceof RequestError && board.error.notFound;
  return (
    <Page
      crumbs={[
        <Link key="b" to="/boards">
          {m.title}
        </Link>,
      ]}
      title={spec?.title ?? name}
      kind={m.one}
      loading={!b && !board.error}
      sentence={spec?.description}
      aside={
        b === undefined ? undefined : editing ? (
          <div className={classes.actions}>
            <Button size="xs" variant="default" onClick={leave}>
              {m.cancel}
            </Button>
            <Button size="xs" leftSection={<IconDeviceFloppy size={14} aria-hidden />} loading={store.isPending} onClick={keep}>
              {m.save}
            </Button>
          </div>
        ) : (
          <div className={classes.actions}>
            <Button size="xs" variant="default" leftSection={<IconPlus size={14} aria-hidden />} onClick={() => pin({ title: "", kind: "query", query: "" })}>
              {m.addQuery}
            </Button>
            <Button size="xs" variant="default" leftSection={<IconPencil size={14} aria-hidden />} onClick={() => void navigate({ search: (old) => ({ ...old, edit: "1" }) })}>
              {m.edit}
            </Button>
            <Button size="xs" variant="default" leftSection={<IconDownload size={14} aria-hidden />} onClick={() => save(`${name}.board.json`, "application/json", exported(b))}>
              {m.export}
            </Button>
            <Button
              size="xs"
              variant="default"
              leftSection={<IconTrash size={14} aria-hidden />}
              loading={remove.isPending}
              onClick={() => {
                if (globalThis.confirm(m.confirm(b.spec.title))) remove.mutate(name, { onSuccess: () => void navigate({ to: "/boards", search: {} }) });
              }}
            >
              {m.delete}
            </Button>
          </div>
        )
      }
    >
      {store.error ? <StateLabel state="critical">{store.error.message}</StateLabel> : null}
      {remove.error ? <StateLabel state="critical">{remove.error.message}</StateLabel> : null}
      {gone ? (
        <Empty title={m.gone(name)} action={<Link to="/boards">{m.all}</Link>} />
      ) : board.error && !b ? (
        <Failure what={m.theBoard} error={board.error} onRetry={() => void board.refetch()} />
      ) : !b || !spec ? (
        <Skeleton height={320} radius={8} />
      ) : (
        <>
          {editing ? (
            <div className={classes.fields}>
              <TextInput label={m.boardTitle} maxLength={120} value={spec.title} onChange={(e) => setDraft({ ...spec, title: e.currentTarget.value })} />
              <TextInput label={m.description} maxLength={2000} value={spec.description ?? ""} onChange={(e) => setDraft({ ...spec, description: e.currentTarget.value })} />
            </div>
          ) : null}
          {spec.panels.length === 0 ? (
            <Empty title={m.empty}>{m.emptyText}</Empty>
          ) : (
            <div className={classes.grid}>
              {spec.panels.map((p, i) => (
                <div key={`${i} ${p.kind} ${p.title}`} className={classes.cell} data-wide={p.wide === true || undefined}>
                  {editing ? <EditBar panel={p} at={i} of={spec.panels} onChange={(panels) => setDraft({ ...spec, panels })} /> : null}
                  <PanelView panel={p} onSort={editing ? (sort) => setDraft({ ...spec, panels: changed(spec.panels, i, { sort }) }) : undefined} />
                </div>
              ))}
            </div>
          )}
        </>
      )}
    </Page>
  );
}

/** What can be done with one panel while the board is changed. */
function EditBar({ panel, at, of, onChange }: { panel: BoardPanel; at: number; of: readonly BoardPanel[]; onChange: (panels: BoardPanel[]) => void }) {
  const [title, setTitle] = useState(panel.title);
  const act = (label: string, icon: typeof IconArrowLeft, onClick: () => void, disabled = false) => {
    const Icon = icon;
    return (
      <ActionIcon variant="default" aria-label={m.panel.act(label, panel.title)} title={label} disabled={disabled} onClick={onClick}>
        <Icon size={15} aria-hidden />
      </ActionIcon>
    );
  };
  return (
    <div className={classes.edit}>
      <TextInput
        size="xs"
        aria-label={m.panel.title(at + 1)}
        maxLength={120}
        value={title}
        onChange={(e) => setTitle(e.currentTarget.value)}
        onBlur={() => {
          if (title.trim() !== "" && title !== panel.title) onChange(changed(of, at, { title: title.trim() }));
        }}
      />
      {act(m.panel.before, IconArrowLeft, () => onChange(moved(of, at, -1)), at === 0)}
      {act(m.panel.behind, IconArrowRight, () => onChange(moved(of, at, 1)), at === of.length - 1)}
      {act(panel.wide === true ? m.panel.narrow : m.panel.wide, IconArrowsHorizontal, () => onChange(changed(of, at, { wide: panel.wide !== true })))}
      {act(m.panel.remove, IconTrash, () => onChange(without(of, at)))}
    </div>
  );
}
