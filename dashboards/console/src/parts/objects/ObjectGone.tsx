import { Button } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { RequestError } from "@/api/problem";
import { Empty, Failure } from "@/ui/Feedback";

/** An object that could not be had. One that is not there any more still has its past below. */
export function ObjectGone({ what, cluster, error, onRetry }: { what: string; cluster: string; error: Error; onRetry: () => void }) {
  if (!(error instanceof RequestError) || !error.notFound) return <Failure what={what} error={error} onRetry={onRetry} />;
  return (
    <Empty
      title={`${what} does not exist now`}
      action={
        <Button size="xs" variant="default" renderRoot={(props) => <Link to="/clusters/$cluster" params={{ cluster }} {...props} />}>
          Go to the cluster
        </Button>
      }
    >
      It was deleted, or never was on this cluster. What was recorded of it in the chosen time is below.
    </Empty>
  );
}
