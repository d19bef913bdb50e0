/** Imported by what runs dist/ or the kernels: fails where they are not those of the sources. */
import { inject } from "vitest";

const buildError = inject("buildError");
if (buildError !== "") throw new Error(buildError);
