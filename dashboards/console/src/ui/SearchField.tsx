import { TextInput } from "@mantine/core";
import { IconFilter } from "@tabler/icons-react";
import type { ReactNode } from "react";
import type { Typed } from "./typed";

interface Props {
  readonly typed: Typed;
  readonly label: string;
  readonly hint: string;
  readonly icon?: ReactNode;
  readonly width?: string;
  readonly className?: string | undefined;
}

/** The field that a table, or another list, is searched with. */
export function SearchField({ typed, label, hint, icon = <IconFilter size={14} />, width, className }: Props) {
  return (
    <TextInput
      size="xs"
      aria-label={label}
      placeholder={hint}
      leftSection={icon}
      {...(width === undefined ? {} : { w: width })}
      {...(className === undefined ? {} : { className })}
      value={typed.text}
      data-behind={typed.behind || undefined}
      onChange={(e) => typed.type(e.currentTarget.value)}
      onBlur={typed.settle}
      onKeyDown={typed.onKeyDown}
    />
  );
}
