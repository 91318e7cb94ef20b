import { Button, Skeleton } from "@mantine/core";
import { IconAlertTriangle, IconRefresh } from "@tabler/icons-react";
import type { ReactNode } from "react";
import { ui as m } from "@/i18n/ui";
import classes from "./Feedback.module.css";

/** Nothing to show: what was looked for, and the nearest useful step. */
export function Empty({ title, children, action }: { title: string; children?: ReactNode; action?: ReactNode }) {
  return (
    <div className={classes.empty}>
      <div className={classes.title}>{title}</div>
      {children === undefined ? null : <div className={classes.text}>{children}</div>}
      {action === undefined ? null : <div className={classes.action}>{action}</div>}
    </div>
  );
}

/** Could not be loaded: the server's words, and a way to try again. */
export function Failure({ what, error, onRetry }: { what: string; error: Error; onRetry?: () => void }) {
  return (
    <div className={classes.empty} role="alert">
      <div className={classes.title}>
        <IconAlertTriangle size={16} aria-hidden /> {m.notLoaded(what)}
      </div>
      <div className={classes.text}>{error.message}</div>
      {onRetry === undefined ? null : (
        <div className={classes.action}>
          <Button size="xs" variant="default" leftSection={<IconRefresh size={14} />} onClick={onRetry}>
            {m.tryAgain}
          </Button>
        </div>
      )}
    </div>
  );
}

/** The facts above an object's tabs, before they are there. */
export const FactsSkeleton = () => <Skeleton height={70} radius={8} />;

/** A table of the size of what comes. */
export function TableSkeleton({ rows = 8 }: { rows?: number }) {
  return (
    <div className={classes.tableSkeleton} aria-busy="true" aria-label={m.loading}>
      {Array.from({ length: rows + 1 }, (_, i) => (
        <div key={i} className={classes.skeletonRow}>
          <Skeleton height={10} width={`${28 - ((i * 7) % 12)}%`} />
          <Skeleton height={10} width="8%" />
          <Skeleton height={10} width="8%" />
          <Skeleton height={10} width="8%" />
        </div>
      ))}
    </div>
  );
}

interface Query<T> {
  readonly data: T | undefined;
  readonly error: Error | null;
  readonly refetch: () => unknown;
}

/** A query's data once it is there; a skeleton before, the reason when it never came. */
export function Loaded<T>({
  query,
  what,
  skeleton,
  children,
}: {
  query: Query<T>;
  what: string;
  skeleton: ReactNode;
  children: (data: T) => ReactNode;
}) {
  if (query.data !== undefined) return <>{children(query.data)}</>;
  if (query.error) return <Failure what={what} error={query.error} onRetry={() => void query.refetch()} />;
  return <>{skeleton}</>;
}
