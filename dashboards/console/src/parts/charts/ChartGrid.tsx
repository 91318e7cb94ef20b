import { Skeleton } from "@mantine/core";
import type { ReactNode } from "react";
import classes from "./ChartPanel.module.css";

export const ChartGrid = ({ children }: { children: ReactNode }) => <div className={classes.grid}>{children}</div>;

export const ChartSkeletons = ({ n }: { n: number }) => (
  <>
    {Array.from({ length: n }, (_, i) => (
      <Skeleton key={i} height={238} radius={8} />
    ))}
  </>
);
