/** Runs on a node of the lab, so that entering the node is in no figure: a {@link TimingPlan} as argument, samples out. */
import { timeInTurn } from '../timing.ts'

process.stdout.write(JSON.stringify(await timeInTurn(JSON.parse(process.argv[2] ?? ''))))
