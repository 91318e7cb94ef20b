import { MantineProvider } from "@mantine/core";
// In a layer of its own: whatever the console says wins, in any order of files.
import "@mantine/core/styles.layer.css";
import { QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { queryClient, router } from "@/app/router";
import "@/ui/global.css";
import { cssVariables, theme } from "@/ui/theme";

const element = document.getElementById("root");
if (!element) throw new Error("BUG: index.html has no #root");

createRoot(element).render(
  <StrictMode>
    <MantineProvider theme={theme} cssVariablesResolver={cssVariables} defaultColorScheme="auto">
      <QueryClientProvider client={queryClient}>
        <RouterProvider router={router} />
      </QueryClientProvider>
    </MantineProvider>
  </StrictMode>,
);
