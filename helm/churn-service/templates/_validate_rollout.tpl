{{/* Rules of the strategies and their analysis; each writes one line a problem. */}}

{{- define "churn-service.validate.strategy" }}
{{- with .Values.strategy }}
{{- if and .keepDeployment (eq .type "rolling") }}
strategy.keepDeployment is true and strategy.type is "rolling", which has only a Deployment: set strategy.keepDeployment=false, or another type
{{- end }}
{{- if and .keepDeployment $.Values.autoscaling.enabled }}
strategy.keepDeployment is true and autoscaling.enabled is true, but one autoscaler cannot scale both: set autoscaling.enabled=false and replicaCount to the present number of pods until the change is over
{{- end }}
{{- if eq .type "canary" }}
{{- if not $.Values.httpRoute.enabled }}
strategy.type is "canary" and httpRoute.enabled is false, so nothing would divide the requests: set httpRoute, or strategy.type=blueGreen
{{- end }}
{{- $before := 0 }}
{{- range $at, $step := .canary.steps }}
{{- if le (int .weight) $before }}
strategy.canary.steps[{{ $at }}].weight is {{ .weight }}: set more than {{ $before }}, the weight of the step before
{{- end }}
{{- $before = int .weight }}
{{- end }}
{{- if ne $before 100 }}
strategy.canary.steps ends at the weight {{ $before }}: set 100 for the last step
{{- end }}
{{- end }}
{{- with .blueGreen.previewReplicaCount }}
{{- if and (eq $.Values.strategy.type "blueGreen") (gt (int .) (include "churn-service.replicas" $ | int)) }}
strategy.blueGreen.previewReplicaCount is {{ . }}: set at most {{ include "churn-service.replicas" $ }}, the number of pods
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "churn-service.validate.analysis" }}
{{- $strategy := .Values.strategy }}
{{- $metrics := .Values.metrics }}
{{- with .Values.analysis }}
{{- if .enabled }}
{{- if eq $strategy.type "rolling" }}
analysis.enabled is true and strategy.type is "rolling", which cannot be judged: set strategy.type to canary or blueGreen, or analysis.enabled=false
{{- end }}
{{- if not (regexMatch "^https?://." .prometheus.address) }}
analysis.prometheus.address is {{ .prometheus.address | quote }}: set an address with http:// or https://, such as http://prometheus.monitoring:9090
{{- end }}
{{- if not (or $metrics.serviceMonitor.enabled $metrics.scrapeAnnotations) }}
analysis.enabled is true and nothing scrapes the pods: set metrics.serviceMonitor.enabled=true (or metrics.scrapeAnnotations, with the pod-template hash as a label)
{{- end }}
{{- if lt (int .windowSeconds) (int .intervalSeconds) }}
analysis.windowSeconds is {{ .windowSeconds }}: set at least analysis.intervalSeconds, which is {{ .intervalSeconds }}
{{- end }}
{{- $scrape := regexFind "^[0-9]+s$" $metrics.serviceMonitor.interval | trimSuffix "s" | default "0" | int }}
{{- if and $metrics.serviceMonitor.enabled (lt (int .windowSeconds) (mul 5 $scrape | int)) }}
analysis.windowSeconds is {{ .windowSeconds }}: set at least {{ mul 5 $scrape }}, five times metrics.serviceMonitor.interval
{{- end }}
{{- if .rescoring.enabled }}
{{- with $.Values.predictionLog }}
{{- if not (and .enabled .shipping.enabled) }}
analysis.rescoring.enabled is true and no prediction log is shipped: set predictionLog.shipping.enabled=true
{{- else if le (int $.Values.analysis.rescoring.timeoutSeconds) (add .fileSeconds .shipping.intervalSeconds | int) }}
analysis.rescoring.timeoutSeconds is {{ $.Values.analysis.rescoring.timeoutSeconds }}: set more than {{ add .fileSeconds .shipping.intervalSeconds }}, which predictionLog.fileSeconds and predictionLog.shipping.intervalSeconds take
{{- end }}
{{- end }}
{{- if not $.Values.idKey.existingSecret }}
analysis.rescoring.enabled is true and idKey.existingSecret is empty: set it, because personal features are compared by their pseudonyms
{{- end }}
{{- end }}
{{- $longest := int .windowSeconds }}
{{- if eq $strategy.type "canary" }}
{{- range $strategy.canary.steps }}
{{- $longest = add $longest (.pauseSeconds | default 0) (mul $.Values.analysis.intervalSeconds (sub $.Values.analysis.successes 1)) | int }}
{{- end }}
{{- end }}
{{- if le (int .deadlineSeconds) $longest }}
analysis.deadlineSeconds is {{ .deadlineSeconds }}: set more than {{ $longest }}, which the pauses and measurements of the steps take at least
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/*
Helm deletes a workload as soon as the other one is created, so that nobody would serve: both must run first. As
with secrets, this is only seen where helm can ask the cluster.
*/}}
{{- define "churn-service.validate.workloads" }}
{{- $name := include "churn-service.fullname" . }}
{{- $type := .Values.strategy.type }}
{{- $deployment := lookup "apps/v1" "Deployment" .Release.Namespace $name }}
{{- $rollout := dict }}
{{- if .Capabilities.APIVersions.Has "argoproj.io/v1alpha1/Rollout" }}
{{- $rollout = lookup "argoproj.io/v1alpha1" "Rollout" .Release.Namespace $name }}
{{- end }}
{{- $serving := ($deployment.status).availableReplicas | default 0 | int }}
{{- $rolledOut := ($rollout.status).availableReplicas | default 0 | int }}
{{- if and (ne $type "rolling") (not .Values.strategy.keepDeployment) $serving (or (ne (($rollout.status).phase | default "") "Healthy") (lt $rolledOut $serving)) }}
strategy.type is {{ $type | quote }}, and the Deployment {{ $name | quote }} serves with {{ $serving }} pods while the Rollout has {{ $rolledOut }}: upgrade with strategy.keepDeployment=true first, and again without it once `kubectl argo rollouts status {{ $name }}` says Healthy
{{- end }}
{{- if and (eq $type "rolling") $rolledOut (lt $serving $rolledOut) }}
strategy.type is "rolling", and the Rollout {{ $name | quote }} serves with {{ $rolledOut }} pods while the Deployment has {{ $serving }}: upgrade with the present type and strategy.keepDeployment=true first, and again once `kubectl rollout status deployment/{{ $name }}` says so
{{- end }}
{{- end }}
