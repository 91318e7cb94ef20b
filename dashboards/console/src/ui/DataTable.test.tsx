// @vitest-environment jsdom
import "@/test/setup";
import { MantineProvider } from "@mantine/core";
import { render, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, it, vi } from "vitest";
import { type Column, DataTable } from "./DataTable";

interface Row {
  readonly name: string;
  readonly cpu: number;
}

const columns: Column<Row>[] = [
  { id: "name", header: "Name", width: "1fr", sort: (r) => r.name, cell: (r) => <a href={`#${r.name}`}>{r.name}</a> },
  { id: "cpu", header: "CPU", width: "1fr", numeric: true, sort: (r) => r.cpu, cell: (r) => String(r.cpu) },
];

function table(rows: Row[], onSort = vi.fn()) {
  return (
    <MantineProvider>
      <DataTable label="things" columns={columns} rows={rows} rowKey={(r) => r.name} sort={{ column: "cpu", descending: true }} onSort={onSort} empty="No thing." />
    </MantineProvider>
  );
}
const order = () =>
  within(screen.getByRole("table", { name: "things" }))
    .getAllByRole("link")
    .map((l) => l.textContent);

it("draws rows in the order of the sort and says so", () => {
  render(table([{ name: "a", cpu: 1 }, { name: "b", cpu: 2 }]));
  expect(order()).toEqual(["b", "a"]);
  expect(screen.getByRole("columnheader", { name: "CPU" })).toHaveAttribute("aria-sort", "descending");
});

it("leaves out at phone width what is wide, and nothing else", () => {
  const both = columns.map((c): Column<Row> => ({ ...c, wide: c.id === "cpu" }));
  render(
    <MantineProvider>
      <DataTable label="things" columns={both} rows={[{ name: "a", cpu: 1 }]} rowKey={(r) => r.name} sort={{ column: "cpu", descending: true }} onSort={vi.fn()} />
    </MantineProvider>,
  );
  const [name, cpu] = screen.getAllByRole("cell");
  expect([name?.hasAttribute("data-wide"), cpu?.hasAttribute("data-wide")]).toEqual([false, true]);
});

it("asks for the largest first in a column of numbers, from A in one of names", async () => {
  const onSort = vi.fn();
  render(table([{ name: "a", cpu: 1 }], onSort));
  await userEvent.click(screen.getByRole("button", { name: "CPU" }));
  await userEvent.click(screen.getByRole("button", { name: "Name" }));
  expect(onSort.mock.calls).toEqual([[{ column: "cpu", descending: false }], [{ column: "name", descending: false }]]);
});

it("keeps the rows in their places under the pointer when values change", async () => {
  const { rerender } = render(table([{ name: "a", cpu: 1 }, { name: "b", cpu: 2 }]));
  await userEvent.hover(screen.getByRole("table"));
  rerender(table([{ name: "a", cpu: 9 }, { name: "b", cpu: 2 }]));
  expect(order()).toEqual(["b", "a"]);
  await userEvent.unhover(screen.getByRole("table"));
  expect(order()).toEqual(["a", "b"]);
});

it("opens a row with Enter and moves with the arrow keys", async () => {
  render(table([{ name: "a", cpu: 1 }, { name: "b", cpu: 2 }]));
  const [, first] = screen.getAllByRole("row");
  first?.focus();
  await userEvent.keyboard("{ArrowDown}");
  await vi.waitFor(() => expect(screen.getAllByRole("row")[2]).toHaveFocus(), { timeout: 60_000 });
  const opened = vi.fn();
  screen.getByRole("link", { name: "a" }).addEventListener("click", opened);
  await userEvent.keyboard("{Enter}");
  expect(opened).toHaveBeenCalledOnce();
});

it("says when there is nothing", () => {
  render(table([]));
  expect(screen.getByText("No thing.")).toBeInTheDocument();
});
