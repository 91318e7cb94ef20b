// @vitest-environment jsdom
import "@/test/setup";
import { MantineProvider } from "@mantine/core";
import { act, fireEvent, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { SearchField } from "./SearchField";
import { restMillis, useTyped } from "./typed";

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

function Field({ kept, keep }: { kept: string; keep: (text: string) => void }) {
  const typed = useTyped(kept, keep);
  return (
    <MantineProvider>
      <SearchField typed={typed} label="filter things" hint="" />
      <output>{typed.search}</output>
    </MantineProvider>
  );
}
const field = () => screen.getByRole<HTMLInputElement>("textbox", { name: "filter things" });
const type = (value: string) => fireEvent.change(field(), { target: { value } });
const rest = (millis: number) => {
  act(() => {
    vi.advanceTimersByTime(millis);
  });
};

it("searches with each key, and keeps the text when the typing rests", () => {
  const keep = vi.fn();
  render(<Field kept="" keep={keep} />);
  type("c");
  rest(restMillis - 1);
  type("ca");
  expect(screen.getByRole("status").textContent).toBe("ca");
  rest(restMillis - 1);
  expect(keep).not.toHaveBeenCalled();
  rest(1);
  expect(keep.mock.calls).toEqual([["ca"]]);
});

it.each([
  ["Enter", () => fireEvent.keyDown(field(), { key: "Enter" })],
  ["leaving the field", () => fireEvent.blur(field())],
])("keeps it at once with %s, and once", (_, end) => {
  const keep = vi.fn();
  const { rerender } = render(<Field kept="" keep={keep} />);
  type("cart");
  end();
  expect(keep.mock.calls).toEqual([["cart"]]);
  rerender(<Field kept="cart" keep={keep} />);
  rest(2 * restMillis);
  expect(keep).toHaveBeenCalledOnce();
});

it("goes on from what was typed while the text before it came back", () => {
  const keep = vi.fn();
  const { rerender } = render(<Field kept="" keep={keep} />);
  type("ca");
  rest(restMillis);
  type("cart");
  rerender(<Field kept="ca" keep={keep} />);
  expect(field().value).toBe("cart");
  rest(restMillis);
  expect(keep.mock.calls).toEqual([["ca"], ["cart"]]);
});

it("takes what changes it from outside, over what was typed and not kept yet", () => {
  const keep = vi.fn();
  const { rerender } = render(<Field kept="cart" keep={keep} />);
  type("carts");
  rerender(<Field kept="shop" keep={keep} />);
  expect(field().value).toBe("shop");
  rest(2 * restMillis);
  expect(keep).not.toHaveBeenCalled();
});

it("keeps nothing when its page goes away", () => {
  const keep = vi.fn();
  const { unmount } = render(<Field kept="" keep={keep} />);
  type("cart");
  unmount();
  vi.advanceTimersByTime(2 * restMillis);
  expect(keep).not.toHaveBeenCalled();
});
