package reference

import (
	"strings"
	"testing"
)

func TestBuiltInKinds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ manifest, want string }{
		"ingress":                {`{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {namespace: prod}, spec: {tls: [{hosts: [a]}, {secretName: cert}]}}`, "TLS Secret prod/cert at spec.tls[1].secretName"},
		"ingress without TLS":    {`{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {namespace: prod}, spec: {rules: [{host: a}]}}`, ""},
		"service account":        {`{apiVersion: v1, kind: ServiceAccount, metadata: {namespace: prod}, secrets: [{name: s}], imagePullSecrets: [{name: r}]}`, "ImagePull Secret prod/r at imagePullSecrets[0].name|Mounted Secret prod/s at secrets[0].name"},
		"volume, csi":            {`{apiVersion: v1, kind: PersistentVolume, spec: {claimRef: {namespace: prod, name: c}, csi: {nodeStageSecretRef: {name: a, namespace: sys}, nodePublishSecretRef: {name: b, namespace: sys}, controllerPublishSecretRef: {name: c, namespace: sys}, controllerExpandSecretRef: {name: d, namespace: sys}, nodeExpandSecretRef: {name: e, namespace: sys}, volumeAttributes: {secretName: f, secretNamespace: sys}}}}`, "PersistentVolume Secret sys/a at spec.csi.nodeStageSecretRef.name|PersistentVolume Secret sys/b at spec.csi.nodePublishSecretRef.name|PersistentVolume Secret sys/c at spec.csi.controllerPublishSecretRef.name|PersistentVolume Secret sys/d at spec.csi.controllerExpandSecretRef.name|PersistentVolume Secret sys/e at spec.csi.nodeExpandSecretRef.name|PersistentVolume Secret sys/f at spec.csi.volumeAttributes.secretName"},
		"volume, in the claim's": {`{apiVersion: v1, kind: PersistentVolume, spec: {claimRef: {namespace: prod, name: c}, azureFile: {secretName: a}}}`, "PersistentVolume Secret prod/a at spec.azureFile.secretName"},
		"volume, anywhere":       {`{apiVersion: v1, kind: PersistentVolume, spec: {rbd: {secretRef: {name: a}}}}`, "PersistentVolume Secret */a at spec.rbd.secretRef.name"},
		"volume, others":         {`{apiVersion: v1, kind: PersistentVolume, spec: {cephfs: {secretRef: {name: a, namespace: x}}, iscsi: {secretRef: {name: b, namespace: x}}, flexVolume: {secretRef: {name: c, namespace: x}}, scaleIO: {secretRef: {name: d, namespace: x}}, storageos: {secretRef: {kind: Secret, name: e, namespace: x}}, azureFile: {secretName: f, secretNamespace: x}}}`, "PersistentVolume Secret x/a at spec.cephfs.secretRef.name|PersistentVolume Secret x/b at spec.iscsi.secretRef.name|PersistentVolume Secret x/c at spec.flexVolume.secretRef.name|PersistentVolume Secret x/d at spec.scaleIO.secretRef.name|PersistentVolume Secret x/e at spec.storageos.secretRef.name|PersistentVolume Secret x/f at spec.azureFile.secretName"},
		"storage class":          {`{apiVersion: storage.k8s.io/v1, kind: StorageClass, parameters: {csi.storage.k8s.io/provisioner-secret-name: a, csi.storage.k8s.io/provisioner-secret-namespace: sys, csi.storage.k8s.io/node-stage-secret-name: "${pvc.name}", csi.storage.k8s.io/node-stage-secret-namespace: "${pvc.namespace}", adminSecretName: b, adminSecretNamespace: old}}`, "Parameter Secret */* at parameters[csi.storage.k8s.io/node-stage-secret-name]|Parameter Secret old/b at parameters.adminSecretName|Parameter Secret sys/a at parameters[csi.storage.k8s.io/provisioner-secret-name]"},
		"snapshot class":         {`{apiVersion: snapshot.storage.k8s.io/v1, kind: VolumeSnapshotClass, parameters: {csi.storage.k8s.io/snapshotter-secret-name: a, csi.storage.k8s.io/snapshotter-secret-namespace: sys}}`, "Parameter Secret sys/a at parameters[csi.storage.k8s.io/snapshotter-secret-name]"},
		"claim that clones":      {`{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {namespace: prod}, spec: {dataSource: {kind: PersistentVolumeClaim, name: data}}}`, "Clone PersistentVolumeClaim prod/data at spec.dataSource.name"},
		"claim of a snapshot":    {`{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {namespace: prod}, spec: {dataSourceRef: {kind: VolumeSnapshot, name: s}}}`, "VolumeSnapshot PersistentVolumeClaim prod/* at spec.dataSourceRef.name"},
		"claim":                  {`{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {namespace: prod}, spec: {storageClassName: fast}}`, ""},
		"claims of a set":        {`{apiVersion: apps/v1, kind: StatefulSet, metadata: {namespace: prod}, spec: {volumeClaimTemplates: [{spec: {dataSource: {kind: PersistentVolumeClaim, name: data}}}]}}`, "Clone PersistentVolumeClaim prod/data at spec.volumeClaimTemplates[0].spec.dataSource.name"},
		"snapshot":               {`{apiVersion: snapshot.storage.k8s.io/v1, kind: VolumeSnapshot, metadata: {namespace: prod}, spec: {source: {persistentVolumeClaimName: data}}}`, "VolumeSnapshot PersistentVolumeClaim prod/data at spec.source.persistentVolumeClaimName"},
		"snapshot of a content":  {`{apiVersion: snapshot.storage.k8s.io/v1, kind: VolumeSnapshot, metadata: {namespace: prod}, spec: {source: {volumeSnapshotContentName: c}}}`, "VolumeSnapshot PersistentVolumeClaim */* at spec.source.volumeSnapshotContentName"},
		"token secret":           {`{apiVersion: v1, kind: Secret, metadata: {namespace: prod, annotations: {kubernetes.io/service-account.name: robot}}, type: kubernetes.io/service-account-token}`, "Token ServiceAccount prod/robot at type"},
		"token secret of all":    {`{apiVersion: v1, kind: Secret, metadata: {namespace: prod}, type: kubernetes.io/service-account-token}`, "Token ServiceAccount prod/* at type"},
		"secret":                 {`{apiVersion: v1, kind: Secret, metadata: {namespace: prod}, type: Opaque, data: {secretName: aHVudGVyMg==}, stringData: {secretName: hunter2}}`, ""},
		"config map":             {`{apiVersion: v1, kind: ConfigMap, metadata: {namespace: prod}, data: {secretName: hunter2, x.yaml: "secretRef: {name: a}"}}`, ""},
		"binding":                {`{apiVersion: v1, kind: Binding, metadata: {namespace: prod}, target: {kind: Node, name: n1}}`, "NodeName Node n1 at target.name"},
		"pod certificate":        {`{apiVersion: certificates.k8s.io/v1beta1, kind: PodCertificateRequest, metadata: {namespace: prod}, spec: {serviceAccountName: robot}}`, "PodCertificate ServiceAccount prod/robot at spec.serviceAccountName"},
		"a schema":               {`{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, spec: {versions: [{schema: {properties: {secretRef: {name: x, type: object}, secretName: {type: string}}}}]}}`, ""},
		"role binding":           {`{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {namespace: prod}, subjects: [{kind: ServiceAccount, name: robot, namespace: x}]}`, ""},
	} {
		if got := strings.Join(find(t, object(t, test.manifest), true), "|"); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, test.want)
		}
	}
}

func TestCustomKinds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ manifest, want string }{
		"gateway":                   {`{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {namespace: prod}, spec: {listeners: [{tls: {certificateRefs: [{kind: Secret, name: a}, {name: b, namespace: other}]}}]}}`, "Field Secret other/b|Field Secret prod/a"},
		"backend TLS":               {`{apiVersion: gateway.networking.k8s.io/v1, kind: BackendTLSPolicy, metadata: {namespace: prod}, spec: {validation: {caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]}}}`, "Field ConfigMap prod/ca"},
		"reference grant":           {`{apiVersion: gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant, metadata: {namespace: prod}, spec: {from: [{group: x, kind: Gateway, namespace: agents}], to: [{group: "", kind: Secret}, {group: "", kind: Secret, name: a}]}}`, "Field Secret prod/*|Field Secret prod/a"},
		"issuer":                    {`{apiVersion: cert-manager.io/v1, kind: Issuer, metadata: {namespace: prod}, spec: {acme: {privateKeySecretRef: {name: a}, solvers: [{dns01: {cloudflare: {apiTokenSecretRef: {name: b, key: k}}}}, {dns01: {route53: {secretAccessKeySecretRef: {name: c}}}}]}, ca: {secretName: d}, vault: {auth: {appRole: {secretRef: {name: e}}, kubernetes: {serviceAccountRef: {name: robot}}}, caBundleSecretRef: {name: f}}, venafi: {tpp: {credentialsRef: {name: g}}}}}`, "Field Secret prod/a|Field Secret prod/b|Field Secret prod/c|Field Secret prod/d|Field Secret prod/e|Field Secret prod/f|Field Secret prod/g|ServiceAccountName ServiceAccount prod/robot"},
		"cluster issuer":            {`{apiVersion: cert-manager.io/v1, kind: ClusterIssuer, spec: {ca: {secretName: d}}}`, "Field Secret */d"},
		"certificate":               {`{apiVersion: cert-manager.io/v1, kind: Certificate, metadata: {namespace: prod}, spec: {secretName: out, keystores: {jks: {passwordSecretRef: {name: in, key: k}}}}}`, "Field Secret prod/in|Write Secret prod/out"},
		"external secret":           {`{apiVersion: external-secrets.io/v1, kind: ExternalSecret, metadata: {namespace: prod}, spec: {secretStoreRef: {name: store, kind: ClusterSecretStore}, target: {name: out}, data: [{secretKey: a, remoteRef: {key: prod/db}}]}}`, "External Secret */*"},
		"external token":            {`{apiVersion: external-secrets.io/v1, kind: ExternalSecret, metadata: {namespace: prod}, spec: {target: {template: {type: kubernetes.io/service-account-token, metadata: {annotations: {kubernetes.io/service-account.name: robot}}}}}}`, "External Secret */*|Token ServiceAccount prod/robot"},
		"push secret":               {`{apiVersion: external-secrets.io/v1alpha1, kind: PushSecret, metadata: {namespace: prod}, spec: {selector: {secret: {name: db}}}}`, "Field Secret prod/db"},
		"push secrets":              {`{apiVersion: external-secrets.io/v1alpha1, kind: PushSecret, metadata: {namespace: prod}, spec: {selector: {secret: {selector: {matchLabels: {a: b}}}}}}`, "Field Secret prod/*"},
		"store":                     {`{apiVersion: external-secrets.io/v1, kind: SecretStore, metadata: {namespace: prod}, spec: {provider: {aws: {auth: {secretRef: {accessKeyIDSecretRef: {name: a, key: k}, secretAccessKeySecretRef: {name: b, key: k}}}}}}}`, "Field Secret prod/a|Field Secret prod/b"},
		"kubernetes store":          {`{apiVersion: external-secrets.io/v1, kind: ClusterSecretStore, spec: {provider: {kubernetes: {remoteNamespace: prod, auth: {serviceAccount: {name: robot, namespace: eso}}}}}}`, "External Secret prod/*|ServiceAccountName ServiceAccount eso/robot"},
		"kubernetes store, default": {`{apiVersion: external-secrets.io/v1, kind: SecretStore, metadata: {namespace: agents}, spec: {provider: {kubernetes: {auth: {token: {bearerToken: {name: t, key: k}}}}}}}`, "External Secret default/*|Field Secret agents/t"},
		"sealed":                    {`{apiVersion: bitnami.com/v1alpha1, kind: SealedSecret, metadata: {namespace: prod, name: db}, spec: {encryptedData: {password: AgBy}, template: {type: Opaque}}}`, ""},
		"sealed for all":            {`{apiVersion: bitnami.com/v1alpha1, kind: SealedSecret, metadata: {namespace: prod, name: db, annotations: {sealedsecrets.bitnami.com/cluster-wide: "true"}}, spec: {encryptedData: {password: AgBy}}}`, "External Secret */*"},
		"vault":                     {`{apiVersion: secrets.hashicorp.com/v1beta1, kind: VaultStaticSecret, metadata: {namespace: prod}, spec: {vaultAuthRef: a, destination: {name: out}}}`, "External Secret */*"},
		"vault auth":                {`{apiVersion: secrets.hashicorp.com/v1beta1, kind: VaultAuth, metadata: {namespace: prod}, spec: {kubernetes: {serviceAccount: robot, audiences: [vault]}}}`, "ServiceAccountName ServiceAccount prod/robot"},
		"vault connection":          {`{apiVersion: secrets.hashicorp.com/v1beta1, kind: VaultConnection, metadata: {namespace: prod}, spec: {caCertSecretRef: ca}}`, "Field Secret prod/ca"},
		"provider class":            {`{apiVersion: secrets-store.csi.x-k8s.io/v1, kind: SecretProviderClass, metadata: {namespace: prod}, spec: {provider: vault, secretObjects: [{secretName: out}]}}`, "External Secret */*|Field Secret prod/out"},
		"application":               {`{apiVersion: argoproj.io/v1alpha1, kind: Application, metadata: {namespace: argocd}, spec: {source: {repoURL: "https://x"}}}`, "Deployer Secret */*"},
		"kustomization":             {`{apiVersion: kustomize.toolkit.fluxcd.io/v1, kind: Kustomization, metadata: {namespace: prod}, spec: {decryption: {secretRef: {name: a}}, kubeConfig: {secretRef: {name: b}}, postBuild: {substituteFrom: [{kind: Secret, name: c}, {kind: ConfigMap, name: d}]}}}`, "Deployer Secret */*|Field ConfigMap prod/d|Field Secret prod/a|Field Secret prod/b|Field Secret prod/c"},
		"kustomization as somebody": {`{apiVersion: kustomize.toolkit.fluxcd.io/v1, kind: Kustomization, metadata: {namespace: prod}, spec: {serviceAccountName: robot}}`, "ServiceAccountName ServiceAccount prod/robot"},
		"git repository":            {`{apiVersion: source.toolkit.fluxcd.io/v1, kind: GitRepository, metadata: {namespace: prod}, spec: {url: "https://x", secretRef: {name: a}}}`, "Deployer Secret */*|Field Secret prod/a"},
		"bucket as somebody":        {`{apiVersion: source.toolkit.fluxcd.io/v1, kind: Bucket, metadata: {namespace: prod}, spec: {serviceAccountName: robot}}`, "Deployer Secret */*|ServiceAccountName ServiceAccount prod/robot"},
		"sealed, to join nodes":     {`{apiVersion: bitnami.com/v1alpha1, kind: SealedSecret, metadata: {namespace: kube-system, name: t}, spec: {template: {type: bootstrap.kubernetes.io/token}}}`, "BootstrapToken Node *"},
		"kyverno clone":             {`{apiVersion: kyverno.io/v1, kind: ClusterPolicy, spec: {rules: [{generate: {kind: Secret, apiVersion: v1, name: out, namespace: "{{request.object.metadata.name}}", clone: {namespace: prod, name: db}}}]}}`, "Fetch Secret prod/db|Field Secret */out"},
		"kyverno clones":            {`{apiVersion: kyverno.io/v1, kind: ClusterPolicy, spec: {rules: [{generate: {namespace: x, cloneList: {namespace: prod, kinds: [v1/Secret]}}}]}}`, "Fetch Secret prod/*"},
		"kyverno call":              {`{apiVersion: kyverno.io/v1, kind: Policy, metadata: {namespace: agents}, spec: {rules: [{context: [{name: a, apiCall: {urlPath: /api/v1/namespaces/prod/secrets}}]}]}}`, "Fetch Secret */*"},
		"kyverno CEL":               {`{apiVersion: policies.kyverno.io/v1alpha1, kind: ValidatingPolicy, spec: {variables: [{name: a, expression: 'resource.Get("v1", "secrets", "prod", "db")'}]}}`, "Fetch Secret */*"},
		"kyverno":                   {`{apiVersion: kyverno.io/v1, kind: ClusterPolicy, spec: {rules: [{name: labels, match: {any: [{resources: {kinds: [Pod]}}]}, validate: {message: label it, pattern: {metadata: {labels: {team: "?*"}}}}}]}}`, ""},
		"gatekeeper sync":           {`{apiVersion: config.gatekeeper.sh/v1alpha1, kind: Config, metadata: {namespace: gatekeeper-system}, spec: {sync: {syncOnly: [{group: "", version: v1, kind: Pod}, {group: "", version: v1, kind: Secret}]}}}`, "Fetch Secret */*"},
		"gatekeeper template":       {`{apiVersion: templates.gatekeeper.sh/v1, kind: ConstraintTemplate, spec: {targets: [{rego: "x { http.send({}) }"}]}}`, "Fetch Secret */*"},
		"crossplane":                {`{apiVersion: aws.crossplane.io/v1beta1, kind: ProviderConfig, spec: {credentials: {source: Secret, secretRef: {namespace: sys, name: aws, key: k}}}}`, "Field Secret sys/aws"},
		"crossplane writes":         {`{apiVersion: database.example.com/v1, kind: DB, spec: {writeConnectionSecretToRef: {namespace: prod, name: out}}}`, "Write Secret prod/out"},
		"prometheus":                {`{apiVersion: monitoring.coreos.com/v1, kind: Prometheus, metadata: {namespace: mon}, spec: {secrets: [a, b], remoteWrite: [{basicAuth: {username: {name: c, key: k}, password: {name: c, key: p}}, tlsConfig: {ca: {secret: {name: d, key: k}}, cert: {configMap: {name: e, key: k}}}}], additionalScrapeConfigs: {name: f, key: k}}}`, "Field ConfigMap mon/e|Field Secret mon/a|Field Secret mon/b|Field Secret mon/c|Field Secret mon/c|Field Secret mon/d|Field Secret mon/f"},
		"alert manager":             {`{apiVersion: monitoring.coreos.com/v1, kind: Alertmanager, metadata: {namespace: mon}, spec: {configSecret: a}}`, "Field Secret mon/a"},
		"traefik":                   {`{apiVersion: traefik.io/v1alpha1, kind: Middleware, metadata: {namespace: prod}, spec: {basicAuth: {secret: users}}}`, "Field Secret prod/users"},
		"contour":                   {`{apiVersion: projectcontour.io/v1, kind: HTTPProxy, metadata: {namespace: prod}, spec: {virtualhost: {tls: {secretName: other/cert}}}}`, "Field Secret other/cert"},
		"istio":                     {`{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {namespace: prod}, spec: {servers: [{tls: {credentialName: cert}}]}}`, "Field Secret */cert"},
		"keda":                      {`{apiVersion: keda.sh/v1alpha1, kind: TriggerAuthentication, metadata: {namespace: prod}, spec: {secretTargetRef: [{parameter: p, name: a, key: k}]}}`, "Field Secret prod/a"},
		"import":                    {`{apiVersion: secretgen.carvel.dev/v1alpha1, kind: SecretImport, metadata: {namespace: agents, name: db}, spec: {fromNamespace: prod}}`, "Field Secret prod/db"},
		"export":                    {`{apiVersion: secretgen.carvel.dev/v1alpha1, kind: SecretExport, metadata: {namespace: prod, name: db}, spec: {toNamespaces: ["*"]}}`, "Field Secret prod/db"},
		"backup":                    {`{apiVersion: velero.io/v1, kind: Backup, metadata: {namespace: velero}, spec: {includedNamespaces: [prod]}}`, "Backup Secret */*"},
		"by its field":              {`{apiVersion: x.example.com/v1, kind: Thing, metadata: {namespace: prod}, spec: {fooSecretRef: {name: a}, barSecretName: b, barSecretNamespace: other, TLSSecretName: c, auth: {secretKeySelector: {name: d, key: k}}, serviceAccountRef: {name: robot}, pull: {imagePullSecrets: [e], pullSecret: {name: f}}}}`, "Field Secret other/b|Field Secret prod/a|Field Secret prod/c|Field Secret prod/d|ImagePull Secret prod/e|ImagePull Secret prod/f|ServiceAccountName ServiceAccount prod/robot"},
		"in another namespace":      {`{apiVersion: x.example.com/v1, kind: Thing, metadata: {namespace: prod}, spec: {secretRef: {name: a, namespace: other}, deep: {secretName: b, namespace: third}}}`, "Field Secret other/a|Field Secret third/b"},
		"made up later":             {`{apiVersion: x.example.com/v1, kind: Thing, metadata: {namespace: prod}, spec: {secretName: "{{ .name }}", deep: {secretRef: {name: a, namespace: "$(ns)"}}}}`, "Field Secret */a|Field Secret prod/*"},
		"a value, not a name":       {`{apiVersion: x.example.com/v1, kind: Thing, metadata: {namespace: prod}, spec: {clientSecret: hunter2, secret: hunter2, password: hunter2, secretRef: {key: k}}}`, ""},
		"a status":                  {`{apiVersion: x.example.com/v1, kind: Thing, metadata: {namespace: prod}, status: {secretName: a}}`, ""},
		"managed fields":            {`{apiVersion: x.example.com/v1, kind: Thing, metadata: {namespace: prod, managedFields: [{fieldsV1: {"f:spec": {secretRef: {name: a}}}}]}}`, ""},
		"no kind at all":            {`{spec: {secretRef: {name: a}}}`, "Field Secret */a"},
	} {
		if got := strings.Join(find(t, object(t, test.manifest), false), "|"); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, test.want)
		}
	}
}

func TestAnnotations(t *testing.T) {
	t.Parallel()
	for annotation, want := range map[string]string{
		`reflector.v1.k8s.emberstack.com/reflects: prod/db`:                        "Annotation Secret prod/db",
		`reflector.v1.k8s.emberstack.com/reflection-allowed: "true"`:               "Annotation Secret agents/own",
		`reflector.v1.k8s.emberstack.com/reflection-allowed: "false"`:              "",
		`reflector.v1.k8s.emberstack.com/reflected-version: "3"`:                   "",
		`replicator.v1.mittwald.de/replicate-from: prod/db`:                        "Annotation Secret prod/db",
		`replicator.v1.mittwald.de/replicate-from: db`:                             "Annotation Secret agents/db",
		`replicator.v1.mittwald.de/replicate-to: other`:                            "Annotation Secret agents/own",
		`replicator.v1.mittwald.de/replication-allowed-namespaces: ".*"`:           "Annotation Secret agents/own",
		`kubed.appscode.com/sync: "a=b"`:                                           "Annotation Secret agents/own",
		`vault.hashicorp.com/agent-inject: "true"`:                                 "Annotation Secret agents/*",
		`vault.hashicorp.com/agent-inject: "false"`:                                "",
		`vault.hashicorp.com/agent-inject-secret-db: prod/db`:                      "Annotation Secret agents/*",
		`vault.hashicorp.com/agent-extra-secret: db`:                               "Annotation Secret agents/db",
		`vault.hashicorp.com/tls-secret: tls`:                                      "Annotation Secret agents/tls",
		`vault.hashicorp.com/agent-configmap: conf`:                                "Annotation ConfigMap agents/conf",
		`vault.security.banzaicloud.io/vault-addr: "https://v"`:                    "Annotation Secret agents/*",
		`nginx.ingress.kubernetes.io/configuration-snippet: "more_set_headers x;"`: "Snippet Secret */*",
		`nginx.ingress.kubernetes.io/server-snippet: "x"`:                          "Snippet Secret */*",
		`nginx.org/location-snippets: "x"`:                                         "Snippet Secret */*",
		`nginx.ingress.kubernetes.io/auth-secret: users`:                           "Annotation Secret agents/users",
		`nginx.ingress.kubernetes.io/auth-tls-secret: prod/ca`:                     "Annotation Secret prod/ca",
		`nginx.ingress.kubernetes.io/proxy-ssl-secret: prod/ca`:                    "Annotation Secret prod/ca",
		`alb.ingress.kubernetes.io/auth-idp-oidc: '{"secretName":"oidc"}'`:         "Annotation Secret agents/*",
		`sidecar.istio.io/userVolume: '[]'`:                                        "Annotation Secret agents/*",
		`dapr.io/app-token-secret: tok`:                                            "Annotation Secret agents/tok",
		`cert-manager.io/inject-ca-from-secret: prod/ca`:                           "Annotation Secret prod/ca",
		`volume.kubernetes.io/provisioner-deletion-secret-name: a`:                 "Annotation Secret agents/a",
		`nginx.ingress.kubernetes.io/rewrite-target: /`:                            "",
		`kubectl.kubernetes.io/restartedAt: "2026-01-01T00:00:00Z"`:                "",
		`example.com/client-secret: "hunter 2"`:                                    "",
		`plain: text`:                                                              "",
	} {
		own := `{apiVersion: v1, kind: %K, metadata: {name: own, namespace: agents, annotations: {` + annotation + `}}}`
		if got := strings.Join(find(t, object(t, strings.Replace(own, "%K", "Secret", 1)), false), "|"); got != want {
			t.Errorf("%s: got %s, want %s", annotation, got, want)
		}
		copied := strings.Join(find(t, object(t, strings.Replace(own, "%K", "ConfigMap", 1)), false), "|")
		if copies := strings.Contains(annotation, "mittwald") || strings.Contains(annotation, "emberstack") || strings.Contains(annotation, "kubed"); copies && copied != strings.Replace(want, "Secret", "ConfigMap", 1) {
			t.Errorf("%s of a ConfigMap: got %s, want %s of a ConfigMap", annotation, copied, want)
		}
		// A template passes its annotations on.
		template := `{apiVersion: apps/v1, kind: Deployment, metadata: {name: own, namespace: agents}, spec: {template: {metadata: {annotations: {` + annotation + `}}}}}`
		if got := strings.Join(find(t, object(t, template), false), "|"); got != want {
			t.Errorf("%s in a template: got %s, want %s", annotation, got, want)
		}
	}
}
