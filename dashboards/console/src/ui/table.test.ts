import { expect, it } from "vitest";
import { filterRows, holdOrder, parseSort, searchIn, sortRows, sortText } from "./table";

const rows = [
  { name: "n-10", cpu: 5 },
  { name: "n-2", cpu: null },
  { name: "n-1", cpu: 90 },
];
const names = (rs: readonly { name: string }[]) => rs.map((r) => r.name).join(" ");

it("sorts numbers in names as numbers", () => expect(names(sortRows(rows, (r) => r.name, false))).toBe("n-1 n-2 n-10"));
it("puts what is unknown last, in both directions", () => {
  expect(names(sortRows(rows, (r) => r.cpu, false))).toBe("n-10 n-1 n-2");
  expect(names(sortRows(rows, (r) => r.cpu, true))).toBe("n-1 n-10 n-2");
});
it("keeps rows in their places while held, and adds new ones at the end", () =>
  expect(names(holdOrder([...rows, { name: "new", cpu: 99 }], (r) => r.name, ["n-1", "n-10", "gone", "n-2"]))).toBe("n-1 n-10 n-2 new"));
it("filters by all words, in any order and case", () => {
  expect(names(filterRows(rows, (r) => `${r.name} worker`, "WORKER n-1"))).toBe("n-10 n-1");
  expect(filterRows(rows, (r) => r.name, "  ")).toHaveLength(3);
});
it("asks a row once for its text, whatever is typed, and not before something is", () => {
  let asked = 0;
  const search = searchIn(rows, (r) => {
    asked++;
    return r.name;
  });
  expect(search("")).toHaveLength(3);
  expect(asked).toBe(0);
  expect([names(search("N-1")), names(search("n-10")), names(search("n-2")), names(search(""))]).toEqual(["n-10 n-1", "n-10", "n-2", "n-10 n-2 n-1"]);
  expect(asked).toBe(3);
});
it("asks a row once for what it is sorted by", () => {
  let asked = 0;
  const many = Array.from({ length: 100 }, (_, i) => ({ name: `n-${(i * 37) % 100}`, cpu: i }));
  const sorted = sortRows(
    many,
    (r) => {
      asked++;
      return r.name;
    },
    true,
  );
  expect([sorted[0]?.name, sorted[99]?.name, asked]).toEqual(["n-99", "n-0", 100]);
});
it("reads and writes a sort", () => {
  const fallback = { column: "state", descending: false };
  expect(parseSort("-cpu", fallback)).toEqual({ column: "cpu", descending: true });
  expect(parseSort(undefined, fallback)).toBe(fallback);
  expect(parseSort("-", fallback)).toBe(fallback);
  expect(sortText({ column: "cpu", descending: true })).toBe("-cpu");
});
