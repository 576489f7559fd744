// Answers one policy question a line: a simulation as JSON in, its result as JSON out.

import { createInterface } from "node:readline";
import { runSimulation } from "@cloud-copilot/iam-simulate";

for await (const line of createInterface({ input: process.stdin })) {
  try {
    const { overallResult, errors } = await runSimulation(JSON.parse(line), {});
    console.log(JSON.stringify({ result: overallResult, errors }));
  } catch (error) {
    console.log(JSON.stringify({ errors: String(error) }));
  }
}
