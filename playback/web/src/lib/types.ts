// The API's documents, as far as the page reads them; /openapi.json has all of it.

export interface StreamView {
  id: string;
  camera: string;
  quality: string;
  state: string;
  reason: string;
  detail: string;
  since: string | null;
  durable_until: string | null;
  last_frame: string | null;
  mime: string;
  codecs: string;
  derived: string[];
  preview: string;
  codec: string;
  audio: string;
  width: number;
  height: number;
  transport: string;
  bitrate_bps: number;
  frame_rate: number;
  packets: number;
  lost_packets: number;
  dropped_gops: number;
  reconnects: number;
  stored_bytes: number;
  stored_bytes_s: number;
  days_left: number | null;
  clock_offset_ms: number | null;
  time_error_ms: number;
}

export interface RecorderView {
  running: boolean;
  updated: string | null;
  version: string;
  workers: number;
  silent: number[];
}

export interface StreamsView {
  now: string;
  recorder: RecorderView;
  streams: StreamView[];
}

export interface GapView { start: string; end: string; cause: string; packets: number }

export interface StreamTimeline {
  stream: string;
  resolution: number;
  durable_until: string | null;
  spans: { start: string; end: string }[];
  gaps: GapView[];
}

export interface TimelinesView { start: string; end: string; timelines: StreamTimeline[] }

export interface SeekResult {
  stream: string;
  time: string | null;
  durable_until: string | null;
  provisional: boolean;
  frame: string | null;
  media_90k: number | null;
}

export interface SeekView { at: string; results: SeekResult[] }

export interface LiveText {
  mime: string;
  init_follows: boolean;
  wall: string;
  wall_us: number;
  media_90k: number;
  skipped: number;
  derived: string[];
}

export interface TrickText { mime: string; init_follows: boolean; wall: string; wall_us: number; shown_90k: number }

export interface CameraView {
  id: string;
  main: string;
  sub: string | null;
  transport: string;
  enabled: boolean;
  note: string;
  record: string;
  schedule: string;
  priority: string;
  demanded_until: string | null;
}

export interface HoldView {
  id: number;
  streams: string[];
  start: string;
  end: string;
  reason: string;
  case: string;
  owner: string;
  created: string;
  expires: string | null;
  active: boolean;
}

export interface VolumeView {
  id: string;
  path: string;
  state: string;
  reason: string;
  detail: string;
  since: string | null;
  streams: number;
  free_bytes: number;
  total_bytes: number;
  queue_bytes: number;
  last_sync_ms: number;
  floor_bytes: number;
  stored_bytes: number;
  held_bytes: number;
  ingest_bytes_s: number;
  days_left: number | null;
  days_kept: number | null;
  days_held: number | null;
  streams_short: number;
  deleting_paused: string;
  deleting_detail: string;
}

export interface VolumesView { now: string; recorder: RecorderView; volumes: VolumeView[] }
