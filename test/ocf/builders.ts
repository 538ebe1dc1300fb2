/** Calls, agents and libvirts for tests of the Pacemaker agent. */
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import type { ParameterName } from '../../src/core/agent/parameters.ts'
import { type Agent, openAgent } from '../../src/ocf/agent.ts'
import { type Call, readCall } from '../../src/ocf/call.ts'
import { Log } from '../../src/ocf/log.ts'
import { type ServerOptions, type SocketServer, startProtocolServer } from '../libvirt/server.ts'

export const UUID = '71c0e72b-1fc2-0c35-5a7d-1ac80702ff0e'

export type Environment = Record<string, string>

/** The environment in which Pacemaker calls: parameters, and whatever else a test wants to say. */
export function environmentOf(parameters: Partial<Record<ParameterName, string>>, more: Environment = {}): Environment {
  const given = Object.entries(parameters).map(([name, value]) => [`OCF_RESKEY_${name}`, value])
  return { OCF_RESOURCE_INSTANCE: 'web', ...Object.fromEntries(given), ...more }
}

/** A call whose time begins now and not with this process. */
export function callOf(action: string, environment: Environment): Call {
  const call = readCall(action, environment)
  return { ...call, deadlineMs: performance.now() + call.deadlineMs }
}

/** What the agent said during the test: to its log, a line each. */
export interface Heard {
  readonly agent: Agent
  readonly lines: () => string[]
}

/** An agent that logs to a file of the folder, and remembers there. */
export async function openedAgent(
  folder: string,
  action: string,
  parameters: Partial<Record<ParameterName, string>>,
  more: Environment = {},
): Promise<Agent> {
  const environment = environmentOf(parameters, { HA_RSCTMP: folder, HA_LOGFILE: join(folder, 'log'), ...more })
  const call = callOf(action, environment)
  const agent = await openAgent(call, new Log(call, environment), new AbortController().signal)
  onTestFinished(() => agent.hypervisor.close())
  return agent
}

/** The URI of a libvirt that listens at this path. */
export function uriAt(path: string): string {
  return `qemu+unix:///system?socket=${encodeURIComponent(path)}`
}

/** A libvirt of the test's own, until the test ends. */
export async function startLibvirt(folder: string, options: ServerOptions): Promise<SocketServer> {
  const server = await startProtocolServer({ path: join(folder, 'libvirt.sock'), ...options })
  onTestFinished(() => server.close())
  return server
}

/** A program of the test's own: lines of sh. */
export function writeProgram(folder: string, name: string, ...lines: string[]): string {
  const file = join(folder, name)
  writeFileSync(file, `#!/bin/sh\n${lines.join('\n')}\n`)
  chmodSync(file, 0o755)
  return file
}
