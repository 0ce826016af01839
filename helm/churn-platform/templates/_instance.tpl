{{/*
dagster.yaml. The rest of the PostgreSQL URL is in variables of libpq. Argument: a list of the root context and of how
often a run is resumed. Where that is not 0, Dagster opens the launcher, which needs a token, with every instance.
*/}}
{{- define "churn-platform.instance" -}}
{{- $resume := index . 1 }}
{{- with index . 0 }}
{{- $name := include "churn-platform.fullname" . -}}
{{- $stepPods := eq (.Values.settings.executor | default "in_process") "k8s" -}}
storage:
  postgres: {postgres_url: "postgresql+psycopg2:///{{ .Values.postgresql.database }}"}
local_artifact_storage:
  module: dagster._core.storage.root
  class: LocalArtifactStorage
  config: {base_dir: /tmp/dagster}
compute_logs:
  {{- if include "churn-platform.claim" . }}
  module: dagster._core.storage.local_compute_log_manager
  class: LocalComputeLogManager
  config: {base_dir: /var/lib/churn/compute-logs}
  {{- else }}
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
  {{- end }}
telemetry: {enabled: false}
nux: {enabled: false}
concurrency:
  runs: {max_concurrent_runs: {{ int64 .Values.runs.maxConcurrent }}}
run_monitoring:
  enabled: true
  start_timeout_seconds: {{ int64 .Values.runs.startTimeoutSeconds }}
  poll_interval_seconds: {{ int64 .Values.runs.pollIntervalSeconds }}
  max_resume_run_attempts: {{ int64 $resume }}
run_retries:
  enabled: true
  max_retries: {{ int64 .Values.runs.retries }}
  retry_on_asset_or_op_failure: false
run_launcher:
  module: churn_assets.defs.platform.kubernetes
  class: JobRunLauncher
  config:
    dagster_home: /opt/dagster
    instance_config_map: {{ $name }}-instance
    job_namespace: {{ .Release.Namespace }}
    service_account_name: {{ $stepPods | ternary (printf "%s-launcher" $name) $name }}
    image_pull_policy: {{ .Values.image.pullPolicy }}
    fail_pod_on_run_failure: true
    env_config_maps: [{{ $name }}-settings]
    run_k8s_config:
      job_spec_config:
        ttlSecondsAfterFinished: {{ int64 .Values.runs.ttlSecondsAfterFinished }}
      pod_template_spec_metadata:
        labels: {{- include "churn-platform.selectorLabels" (list . "run") | nindent 10 }}
      pod_spec_config:
        automountServiceAccountToken: {{ $stepPods }}
        enableServiceLinks: false
        securityContext: {{- include "churn-platform.podSecurity" .Values.runAsUser | nindent 10 }}
        {{- include "churn-platform.placement" . | nindent 8 }}
        volumes: {{- include "churn-platform.graphVolumes" . | nindent 10 }}
      container_config:
        env: {{- include "churn-platform.graphEnv" . | nindent 10 }}
        resources: {{- toYaml .Values.runs.resources | nindent 10 }}
        securityContext: {{- include "churn-platform.containerSecurity" . | nindent 10 }}
        terminationMessagePolicy: FallbackToLogsOnError
        volumeMounts: {{- include "churn-platform.graphMounts" . | nindent 10 }}
{{- end }}
{{- end -}}
