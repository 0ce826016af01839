{{/* Pod that gets logged predictions of a canary from the store and scores them again with its own bento. */}}
{{- define "churn-service.rescoringPod" -}}
{{- $fetched := eq .Values.model.source "archive" }}
{{- $shipping := .Values.predictionLog.shipping }}
metadata:
  labels: {{- include "churn-service.rescoringLabels" . | nindent 4 }}
spec:
  restartPolicy: Never
  serviceAccountName: {{ include "churn-service.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext: {{- include "churn-service.podSecurity" . | nindent 4 }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  initContainers:
    {{- if $fetched }}
    {{- include "churn-service.fetcher" . | nindent 4 }}
    {{- end }}
    - name: sample
      image: {{ include "churn-service.image" $shipping.image }}
      imagePullPolicy: {{ $shipping.image.pullPolicy }}
      command: [python3, -m, prediction_log_sampler]
      securityContext: {{- include "churn-service.containerSecurity" . | nindent 8 }}
      env:
        - name: CHURN_SAMPLE_URL
          value: {{ $shipping.url | quote }}
        - name: CHURN_SAMPLE_RELEASE
          value: {{ .Release.Name }}
        - name: CHURN_SAMPLE_TEMPLATE_HASH
          value: {{ "{{args.canary}}" | quote }}
        - name: CHURN_SAMPLE_TARGET
          value: /sample/lines.jsonl
        - name: CHURN_SAMPLE_LINES
          value: {{ .Values.analysis.rescoring.requests | quote }}
        - name: CHURN_SAMPLE_TIMEOUT
          value: {{ .Values.analysis.rescoring.timeoutSeconds | quote }}
        {{- with $shipping.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $shipping.existingSecret }}
      envFrom:
        - secretRef:
            name: {{ . }}
      {{- end }}
      resources: {{- toYaml .Values.analysis.rescoring.resources | nindent 8 }}
      terminationMessagePolicy: FallbackToLogsOnError
      volumeMounts:
        - name: tmp
          mountPath: /tmp
        - name: sample
          mountPath: /sample
        {{- include "churn-service.logStoreMounts" $shipping | nindent 8 }}
  containers:
    - name: rescore
      image: {{ include "churn-service.image" .Values.image }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command: [python3, -m, churn_service.rescoring]
      args: [--bento, /bento, --lines, /sample/lines.jsonl, --id-key, /etc/churn/id/id.key, --fewest, {{ div (add 1 .Values.analysis.rescoring.requests) 2 | quote }}]
      securityContext: {{- include "churn-service.containerSecurity" . | nindent 8 }}
      env:
        - name: PYTHONPATH
          value: /bento/src
      resources: {{- toYaml .Values.analysis.rescoring.resources | nindent 8 }}
      terminationMessagePolicy: FallbackToLogsOnError
      volumeMounts:
        - name: tmp
          mountPath: /tmp
        - name: sample
          mountPath: /sample
          readOnly: true
        - name: id-key
          mountPath: /etc/churn/id
          readOnly: true
        {{- if $fetched }}
        - name: model
          mountPath: /bento
          subPath: bento
          readOnly: true
        {{- end }}
  volumes:
    - name: tmp
      emptyDir:
        sizeLimit: {{ .Values.volumes.tmpSizeLimit }}
    - name: sample
      emptyDir:
        sizeLimit: 256Mi
    {{- include "churn-service.idKeyVolume" . | nindent 4 }}
    {{- include "churn-service.logStoreVolumes" . | nindent 4 }}
    {{- if $fetched }}
    {{- include "churn-service.fetcherVolumes" . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Another name than the service's, so that no Service, budget or autoscaler counts the pod. */}}
{{- define "churn-service.rescoringLabels" -}}
app.kubernetes.io/name: {{ include "churn-service.name" . | trunc 53 }}-rescoring
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: rescoring
app.kubernetes.io/part-of: churn
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}
