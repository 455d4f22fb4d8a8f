package main

import (
	"context"
	"flag"
	"log"
	"os"
	"path/filepath"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// localVolumes makes a directory and a local PersistentVolume for each claim of the class, and takes both away with the
// claim. The provisioner inside Kubernetes itself makes hostPath volumes that only root may write and that know no
// fsGroup; to local volumes the kubelet gives the pod's fsGroup, as it does to those of a real cluster.
type localVolumes struct {
	client                      kubernetes.Interface
	class, node, directory, own string
}

func provisioner() {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig file")
	v := localVolumes{own: "mailferry.dev/local"}
	flag.StringVar(&v.class, "class", "local", "StorageClass of the claims to serve")
	flag.StringVar(&v.node, "node", "", "name of the node that holds the directory")
	flag.StringVar(&v.directory, "directory", "", "where volumes are made")
	flag.Parse()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Fatal(err)
	}
	v.client = kubernetes.NewForConfigOrDie(config)
	// What failed is tried again with the next resync.
	factory := informers.NewSharedInformerFactory(v.client, 5*time.Second)
	claims := factory.Core().V1().PersistentVolumeClaims().Informer()
	claims.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { v.provide(o.(*core.PersistentVolumeClaim)) },
		UpdateFunc: func(_, o any) { v.provide(o.(*core.PersistentVolumeClaim)) },
	})
	volumes := factory.Core().V1().PersistentVolumes().Informer()
	volumes.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { v.reclaim(o.(*core.PersistentVolume)) },
		UpdateFunc: func(_, o any) { v.reclaim(o.(*core.PersistentVolume)) },
	})
	factory.Start(context.Background().Done())
	select {}
}

func (v *localVolumes) provide(claim *core.PersistentVolumeClaim) {
	if claim.Spec.VolumeName != "" || claim.Spec.StorageClassName == nil || *claim.Spec.StorageClassName != v.class {
		return
	}
	name := "pvc-" + string(claim.UID)
	path := filepath.Join(v.directory, name)
	if err := os.MkdirAll(path, 0o755); err != nil {
		log.Print(err)
		return
	}
	volume := &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{
			Name:        name,
			Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": v.own},
		},
		Spec: core.PersistentVolumeSpec{
			Capacity:                      core.ResourceList{core.ResourceStorage: claim.Spec.Resources.Requests[core.ResourceStorage]},
			AccessModes:                   claim.Spec.AccessModes,
			StorageClassName:              v.class,
			PersistentVolumeReclaimPolicy: core.PersistentVolumeReclaimDelete,
			PersistentVolumeSource:        core.PersistentVolumeSource{Local: &core.LocalVolumeSource{Path: path}},
			ClaimRef: &core.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{NodeSelectorTerms: []core.NodeSelectorTerm{{
				MatchExpressions: []core.NodeSelectorRequirement{{
					Key: core.LabelHostname, Operator: core.NodeSelectorOpIn, Values: []string{v.node},
				}},
			}}}},
		},
	}
	_, err := v.client.CoreV1().PersistentVolumes().Create(context.Background(), volume, meta.CreateOptions{})
	if err != nil && !errors.IsAlreadyExists(err) {
		log.Print(err)
	}
}

func (v *localVolumes) reclaim(volume *core.PersistentVolume) {
	if volume.Status.Phase != core.VolumeReleased || volume.Annotations["pv.kubernetes.io/provisioned-by"] != v.own {
		return
	}
	if err := os.RemoveAll(volume.Spec.Local.Path); err != nil {
		log.Print(err)
		return
	}
	err := v.client.CoreV1().PersistentVolumes().Delete(context.Background(), volume.Name, meta.DeleteOptions{})
	if err != nil && !errors.IsNotFound(err) {
		log.Print(err)
	}
}
