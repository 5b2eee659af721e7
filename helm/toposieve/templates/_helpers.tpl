{{- define "toposieve.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* Labels that select; call with (list $ "component"). */}}
{{- define "toposieve.selector" -}}
{{- $root := first . -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ last . }}
{{- end }}

{{/* Labels of every object; call with (list $ "component"). */}}
{{- define "toposieve.labels" -}}
{{- $root := first . -}}
{{ include "toposieve.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end }}

{{/* Full name of an image; call with (list $ "spark"). */}}
{{- define "toposieve.image" -}}
{{- $images := (first .).Values.images -}}
{{- printf "%s%s:%s" $images.prefix (last .) $images.tag -}}
{{- end }}

{{- define "toposieve.claim" -}}
{{- .Values.storage.existingClaim | default (printf "%s-base" (include "toposieve.name" .)) -}}
{{- end }}

{{/* Where all data lies, as the jobs are told. */}}
{{- define "toposieve.base" -}}
{{- eq .Values.storage.kind "claim" | ternary .Values.storage.mountPath .Values.storage.url -}}
{{- end }}

{{/* Ends with an error where a server has no volume to read from; call with (list $ "key of values" "what it reads"). */}}
{{- define "toposieve.needsVolume" -}}
{{- $kind := (first .).Values.storage.kind -}}
{{- if ne $kind "claim" -}}
{{- fail (printf "%s.enabled: it reads %s from a volume, and with storage.kind=%s there is none: set %s.enabled=false" (index . 1) (last .) $kind (index . 1)) -}}
{{- end -}}
{{- end }}

{{/* Where Spark writes what the history server shows. */}}
{{- define "toposieve.eventLogs" -}}
{{- printf "%s/spark-events" .Values.storage.mountPath -}}
{{- end }}

{{/* Security context of a pod at the restricted Pod Security level. */}}
{{- define "toposieve.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "toposieve.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* A Deployment of one pod and its Service; call with a dict: root, component, image, command, port, path, resources, env. */}}
{{- define "toposieve.server" -}}
{{- $root := .root -}}
{{- $name := printf "%s-%s" (include "toposieve.name" $root) .component -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  labels: {{- include "toposieve.labels" (list $root .component) | nindent 4 }}
spec:
  replicas: 1
  revisionHistoryLimit: 2
  selector:
    matchLabels: {{- include "toposieve.selector" (list $root .component) | nindent 6 }}
  template:
    metadata:
      labels: {{- include "toposieve.labels" (list $root .component) | nindent 8 }}
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      securityContext: {{- include "toposieve.podSecurity" $root | nindent 8 }}
      {{- with $root.Values.images.pullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "toposieve.image" (list $root .image) }}
          imagePullPolicy: {{ $root.Values.images.pullPolicy }}
          args: {{- toYaml .command | nindent 12 }}
          {{- with .env }}
          env: {{- toYaml . | nindent 12 }}
          {{- end }}
          ports:
            - {name: http, containerPort: {{ .port }}}
          startupProbe:
            httpGet: {port: http, path: {{ .path }}}
            periodSeconds: 2
            failureThreshold: 90
          livenessProbe:
            httpGet: {port: http, path: {{ .path }}}
            periodSeconds: 30
            timeoutSeconds: 10
          resources: {{- toYaml .resources | nindent 12 }}
          securityContext: {{- include "toposieve.containerSecurity" $root | nindent 12 }}
          volumeMounts:
            - {name: scratch, mountPath: /tmp}
            - {name: base, mountPath: {{ $root.Values.storage.mountPath }}{{ if .readOnly }}, readOnly: true{{ end }}}
      volumes:
        - {name: scratch, emptyDir: {sizeLimit: 1Gi}}
        - {name: base, persistentVolumeClaim: {claimName: {{ include "toposieve.claim" $root }}}}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  labels: {{- include "toposieve.labels" (list $root .component) | nindent 4 }}
spec:
  selector: {{- include "toposieve.selector" (list $root .component) | nindent 4 }}
  ports:
    - {name: http, port: {{ .port }}, targetPort: http}
{{- end }}
