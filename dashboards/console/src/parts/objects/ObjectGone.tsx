import { Button } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { RequestError } from "@/api/problem";
import { objects as m } from "@/i18n/objects";
import { Empty, Failure } from "@/ui/Feedback";

/** An object that could not be had. One that is not there any more still has its past below. */
export function ObjectGone({ what, cluster, error, onRetry }: { what: string; cluster: string; error: Error; onRetry: () => void }) {
  if (!(error instanceof RequestError) || !error.notFound) return <Failure what={what} error={error} onRetry={onRetry} />;
  return (
    <Empty
      title={m.gone(what)}
      action={
        <Button size="xs" variant="default" renderRoot={(props) => <Link to="/clusters/$cluster" params={{ cluster }} {...props} />}>
          {m.toCluster}
        </Button>
      }
    >
      {m.goneWhy}
    </Empty>
  );
}
