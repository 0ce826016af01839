{{/* Init container that fetches the archive of the bento into the volume `model`, and its volumes. */}}
{{- define "churn-service.fetcher" -}}
{{- with .Values.model.archive -}}
- name: fetch-bento
  image: {{ include "churn-service.image" .image }}
  imagePullPolicy: {{ .image.pullPolicy }}
  securityContext: {{- include "churn-service.containerSecurity" $ | nindent 4 }}
  env:
    - name: CHURN_FETCH_URL
      value: {{ .url | quote }}
    - name: CHURN_FETCH_SHA256
      value: {{ .sha256 | quote }}
    - name: CHURN_FETCH_CONTRACT
      value: {{ .contract | quote }}
    - name: CHURN_FETCH_TARGET
      value: /volume/bento
    - name: CHURN_FETCH_TIMEOUT
      value: {{ .timeoutSeconds | quote }}
    - name: CHURN_FETCH_MAX_BYTES
      value: {{ int64 .maxBytes | quote }}
    {{- with .extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .existingSecret }}
  envFrom:
    - secretRef:
        name: {{ . }}
  {{- end }}
  resources: {{- toYaml .resources | nindent 4 }}
  volumeMounts:
    - name: model
      mountPath: /volume
    - name: tmp
      mountPath: /tmp
    {{- if .existingSecret }}
    - name: store-credentials
      mountPath: /etc/churn/store
      readOnly: true
    {{- end }}
    {{- if .existingClaim }}
    - name: archives
      mountPath: /archives
      readOnly: true
    {{- end }}
{{- end -}}
{{- end -}}

{{- define "churn-service.fetcherVolumes" -}}
{{- with .Values.model.archive -}}
- name: model
  emptyDir:
    sizeLimit: {{ $.Values.volumes.modelSizeLimit }}
{{- with .existingSecret }}
- name: store-credentials
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with .existingClaim }}
- name: archives
  persistentVolumeClaim:
    claimName: {{ . }}
    readOnly: true
{{- end }}
{{- end -}}
{{- end -}}
