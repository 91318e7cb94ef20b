import { Button, FileButton } from "@mantine/core";
import { IconPlus, IconUpload } from "@tabler/icons-react";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useState } from "react";
import { type Board, imported, nameOf } from "@/parts/boards/model";
import { useBoards, useCreateBoard } from "@/parts/boards/queries";
import { boards as m } from "@/i18n/boards";
import { Page } from "@/parts/page";
import { useSetSearch } from "@/parts/search";
import { type Column, DataTable } from "@/ui/DataTable";
import { age, count, instant } from "@/ui/format";
import { Empty, Loaded, TableSkeleton } from "@/ui/Feedback";
import { useNow } from "@/ui/now";
import { StateLabel } from "@/ui/state";
import { parseSort, sortText } from "@/ui/table";
import classes from "./boards.module.css";

const route = getRouteApi("/boards");
const key = (b: Board) => b.metadata.name;

export function BoardsPage() {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const set = useSetSearch<typeof search>();
  const boards = useBoards();
  const create = useCreateBoard();
  const now = useNow();
  const [wrong, setWrong] = useState<string | undefined>();
  const taken = (boards.data ?? []).map(key);
  const made = (board: Board) => create.mutate(board, { onSuccess: (b) => void navigate({ to: "/boards/$name", params: { name: b.metadata.name }, search: { edit: "1" } }) });
  const read = async (file: File | null) => {
    if (!file) return;
    setWrong(undefined);
    try {
      made(imported(await file.text(), taken));
    } catch (e) {
      setWrong(e instanceof Error ? e.message : String(e));
    }
  };
  const columns: Column<Board>[] = [
    {
      id: "title",
      header: m.columns.board,
      width: "minmax(160px, 2fr)",
      phoneWidth: "minmax(0, 1fr)",
      wraps: true,
      sort: (b) => b.spec.title,
      cell: (b) => (
        <Link to="/boards/$name" params={{ name: b.metadata.name }}>
          {b.spec.title}
        </Link>
      ),
    },
    { id: "description", header: m.columns.description, wide: true, width: "minmax(120px, 3fr)", cell: (b) => <span title={b.spec.description}>{b.spec.description}</span> },
    { id: "panels", header: m.columns.panels, numeric: true, width: "72px", phoneWidth: "56px", sort: (b) => b.spec.panels.length, cell: (b) => count(b.spec.panels.length) },
    { id: "by", header: m.columns.by, wide: true, width: "110px", sort: (b) => b.metadata.updatedBy, cell: (b) => b.metadata.updatedBy },
    { id: "changed", header: m.columns.changed, numeric: true, width: "96px", phoneWidth: "80px", sort: (b) => instant(b.metadata.updatedAt), cell: (b) => age(b.metadata.updatedAt, now) },
  ];
  return (
    <Page
      title={m.title}
      loading={boards.data === undefined && !boards.error}
      sentence={boards.data ? (boards.data.length === 0 ? m.nothing : m.sentence(boards.data.length)) : undefined}
      aside={
        <div className={classes.actions}>
          <FileButton onChange={(f) => void read(f)} accept="application/json,.json">
            {(props) => (
              <Button {...props} size="xs" variant="default" leftSection={<IconUpload size={14} aria-hidden />}>
                {m.import}
              </Button>
            )}
          </FileButton>
          <Button
            size="xs"
            variant="default"
            leftSection={<IconPlus size={14} aria-hidden />}
            loading={create.isPending}
            onClick={() => made({ apiVersion: "crowsnest.dev/v1", kind: "Board", metadata: { name: nameOf(m.new, taken) }, spec: { title: m.new, panels: [] } })}
          >
            {m.new}
          </Button>
        </div>
      }
    >
      {wrong !== undefined || create.error ? <StateLabel state="critical">{wrong ?? create.error?.message}</StateLabel> : null}
      <Loaded query={boards} what={m.title} skeleton={<TableSkeleton rows={4} />}>
        {(list) =>
          list.length === 0 ? (
            <Empty title={m.none}>{m.noneText}</Empty>
          ) : (
            <DataTable label={m.label} columns={columns} rows={list} rowKey={key} sort={parseSort(search.sort, { column: "title", descending: false })} onSort={(s) => set({ sort: sortText(s) })} />
          )
        }
      </Loaded>
    </Page>
  );
}
