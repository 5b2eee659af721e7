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

{{- define "toposieve.logs" -}}
{{- .Values.airflow.logs.existingClaim | default (printf "%s-logs" (include "toposieve.name" .)) -}}
{{- end }}

{{/* Where Airflow is. */}}
{{- define "toposieve.airflowNamespace" -}}
{{- .Values.airflow.namespace | default .Release.Namespace -}}
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

{{/* What pods are made from, in YAML: the file of the repository, what this release knows, the changes of whoever installs
     it; the evaluation as gangs, then its own. Call with (list $ "gang"), "evaluation", "spark" or "task". */}}
{{- define "toposieve.pod" -}}
{{- $root := first . }}
{{- $role := last . }}
{{- $changes := $root.Values.pods }}
{{- $pod := $root.Files.Get (printf "%s-pod.yaml" (eq $role "evaluation" | ternary "gang" $role)) | fromYaml }}
{{- if eq $role "task" }}
{{- $pod = include "toposieve.patched" (list $pod (include "toposieve.ofTask" $root | fromYaml)) | fromJson }}
{{- else if ne $role "spark" }}
{{- $_ := set $pod.spec "serviceAccountName" (printf "%s-training" (include "toposieve.name" $root)) }}
{{- if $root.Values.kueue.enabled }}
{{- $_ := set $pod "metadata" (dict "labels" (dict "kueue.x-k8s.io/queue-name" $root.Values.kueue.localQueue)) }}
{{- end }}
{{- $pod = include "toposieve.patched" (list $pod $changes.gang) | fromJson }}
{{- end }}
{{- if ne $role "gang" }}
{{- $pod = include "toposieve.patched" (list $pod (get $changes $role)) | fromJson }}
{{- end }}
{{- toYaml $pod }}
{{- end }}

{{/* What this release knows of the pods of Airflow's tasks. A task checks what its job has made: it sees all data. */}}
{{- define "toposieve.ofTask" -}}
{{- $name := include "toposieve.name" . }}
{{- $storage := .Values.storage }}
spec:
  serviceAccountName: {{ $name }}-runner
  containers:
    - name: base
      image: {{ include "toposieve.image" (list . "airflow") }}
      imagePullPolicy: {{ .Values.images.pullPolicy }}
      volumeMounts:
        {{- if eq $storage.kind "claim" }}
        - {name: base, mountPath: {{ $storage.mountPath }}, readOnly: true}
        {{- end }}
        {{- if $storage.secret }}
        - {name: store, mountPath: /etc/toposieve/store, readOnly: true}
      envFrom:
        - secretRef: {name: {{ $storage.secret }}, optional: true}
        {{- end }}
  volumes:
    - {name: profile, configMap: {name: {{ $name }}-profile}}
    {{- if .Values.airflow.logs.enabled }}
    - {name: logs, persistentVolumeClaim: {claimName: {{ include "toposieve.logs" . }}}}
    {{- else }}
    - {name: logs, emptyDir: {}}
    {{- end }}
    {{- if eq $storage.kind "claim" }}
    - {name: base, persistentVolumeClaim: {claimName: {{ include "toposieve.claim" . }}}}
    {{- end }}
    {{- if $storage.secret }}
    - {name: store, secret: {secretName: {{ $storage.secret }}, optional: true}}
    {{- end }}
{{- end }}

{{/* An object, changed as kubectl patch does it, in JSON: null takes a key away; of the lists, those below are joined by
     what tells their items apart, any other is replaced. Call with (list object changes). */}}
{{- define "toposieve.patched" -}}
{{- $result := deepCopy (first .) }}
{{- $names := dict "containers" "name" "initContainers" "name" "volumes" "name" "env" "name" "volumeMounts" "mountPath"
    "topologySpreadConstraints" "topologyKey" }}
{{- range $key, $new := last . }}
{{- $old := get $result $key }}
{{- if kindIs "invalid" $new }}
{{- $result = unset $result $key }}
{{- else if and (kindIs "map" $old) (kindIs "map" $new) }}
{{- $_ := set $result $key (include "toposieve.patched" (list $old $new) | fromJson) }}
{{- else if and (hasKey $names $key) (kindIs "slice" $old) (kindIs "slice" $new) }}
{{- $name := get $names $key }}
{{- $_ := set $result $key (include "toposieve.joined" (list $old $new $name) | fromJson).items }}
{{- else }}
{{- $_ := set $result $key $new }}
{{- end }}
{{- end }}
{{- toJson $result }}
{{- end }}

{{/* Two lists of objects that have a name, as {items: [...]}; those of one name are patched. Call with (list old new "name"). */}}
{{- define "toposieve.joined" -}}
{{- $name := last . }}
{{- $changes := dict }}
{{- range index . 1 }}
{{- $_ := set $changes (get . $name) . }}
{{- end }}
{{- $items := list }}
{{- range first . }}
{{- $key := get . $name }}
{{- $items = append $items (include "toposieve.patched" (list . (get $changes $key | default dict)) | fromJson) }}
{{- $changes = unset $changes $key }}
{{- end }}
{{- range index . 1 }}
{{- if hasKey $changes (get . $name) }}
{{- $items = append $items . }}
{{- end }}
{{- end }}
{{- toJson (dict "items" $items) }}
{{- end }}

{{/* A claim, and the volume behind it if that is a directory of the one machine; call with a dict: root, component, name,
     namespace, volume (size, storageClassName, hostPath, keep). */}}
{{- define "toposieve.volume" -}}
{{- $volume := .volume -}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ .name }}
  namespace: {{ .namespace }}
  {{- include "toposieve.kept" . | nindent 2 }}
spec:
  accessModes: [ReadWriteMany]
  {{- if $volume.hostPath }}
  storageClassName: ""
  volumeName: {{ .namespace }}-{{ .name }}
  {{- else if kindIs "string" $volume.storageClassName }}
  storageClassName: {{ $volume.storageClassName | quote }}
  {{- end }}
  resources:
    requests:
      storage: {{ $volume.size }}
{{- if $volume.hostPath }}
---
apiVersion: v1
kind: PersistentVolume
metadata:
  name: {{ .namespace }}-{{ .name }}
  {{- include "toposieve.kept" . | nindent 2 }}
spec:
  accessModes: [ReadWriteMany]
  capacity:
    storage: {{ $volume.size }}
  claimRef:
    namespace: {{ .namespace }}
    name: {{ .name }}
  hostPath:
    path: {{ $volume.hostPath | quote }}
    type: Directory
  persistentVolumeReclaimPolicy: Retain
  storageClassName: ""
{{- end }}
{{- end }}

{{/* Labels of a claim or a volume, and that it stays when the release goes. */}}
{{- define "toposieve.kept" -}}
labels: {{- include "toposieve.labels" (list .root .component) | nindent 2 }}
{{- if .volume.keep }}
annotations:
  helm.sh/resource-policy: keep
{{- end }}
{{- end }}

{{/* The servers have the security contexts of Spark's pods. */}}
{{- define "toposieve.podSecurity" -}}
{{- (include "toposieve.pod" (list . "spark") | fromYaml).spec.securityContext | toYaml }}
{{- end }}

{{- define "toposieve.containerSecurity" -}}
{{- (first (include "toposieve.pod" (list . "spark") | fromYaml).spec.containers).securityContext | toYaml }}
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
